# Installs the build in BUILD_DIR below WORK_DIR, moves it, then builds and runs a user's programs (SOURCE_DIR) against what
# was installed: by find_package(), and by pkg-config. The tree of MemStream is not on their include path.
file(REMOVE_RECURSE ${WORK_DIR})
set(prefix ${WORK_DIR}/prefix)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/first)
file(RENAME ${WORK_DIR}/first ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G Ninja -D CMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/user)
run(${WORK_DIR}/build/user_cpp)

find_program(PKG_CONFIG NAMES pkgconf pkg-config REQUIRED)
file(GLOB_RECURSE descriptions ${prefix}/*/memstream.pc)
cmake_path(GET descriptions PARENT_PATH folder)
set(ENV{PKG_CONFIG_PATH} ${folder})
function(ask result)
  execute_process(COMMAND ${PKG_CONFIG} ${ARGN} memstream
    OUTPUT_VARIABLE answer OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(answer UNIX_COMMAND "${answer}")
  set(${result} ${answer} PARENT_SCOPE)
endfunction()
ask(version --modversion)
ask(flags --cflags --libs)
ask(libdir --variable=libdir)
set(define -DEXPECTED_VERSION="${version}")
run(cc -std=c11 -Wall -Wextra -Werror ${define} ${SOURCE_DIR}/user.c -o ${WORK_DIR}/by_pc ${flags} -Wl,-rpath,${libdir})
run(c++ -std=c++17 -Wall -Wextra -Werror ${define} ${SOURCE_DIR}/user.cpp -o ${WORK_DIR}/by_pc_cpp
  ${flags} -Wl,-rpath,${libdir})
run(${WORK_DIR}/by_pc)
run(${WORK_DIR}/by_pc_cpp)
