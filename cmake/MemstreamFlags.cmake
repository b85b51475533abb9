# memstream_flags: how every target of this project is compiled. Linked PRIVATE, so that none of it reaches a user's build.
add_library(memstream_flags INTERFACE)
target_compile_features(memstream_flags INTERFACE c_std_11 cxx_std_20)
# -Wconversion finds the narrowed offset and the signed size: the two mistakes that a layout of offsets cannot afford.
target_compile_options(memstream_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
# The lock contracts of core/base/thread_safety.h. GCC has no such analysis.
target_compile_options(memstream_flags INTERFACE
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety> $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Werror=thread-safety>)
# Root-relative includes ("core/base/segment.h"): every include line shows which layer it reaches into.
target_include_directories(memstream_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(memstream_flags INTERFACE $<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)
# A project that includes this one may give no build type: the library is optimised all the same.
target_compile_options(memstream_flags INTERFACE $<$<STREQUAL:$<CONFIG>,>:-O2> $<$<STREQUAL:$<CONFIG>,>:-DNDEBUG>)
# ccache reads what GCC has preprocessed, which else would say nothing of the precompiled headers.
target_compile_options(memstream_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)

set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_COMPILE_WARNING_AS_ERROR ${MEMSTREAM_WERROR})
# The static libraries end up inside libcache.so, which shows nothing but what api/libcache.map names.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

# A sanitizer has to see the whole program, the tests included: hence the directory's options instead of a target's.
if(MEMSTREAM_SANITIZE STREQUAL "address")
  # GCC 12 takes what the sanitizer puts into std::regex for uninitialised; Valgrind looks for the real ones.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=address,undefined)
elseif(MEMSTREAM_SANITIZE STREQUAL "thread")
  # GCC warns that its thread sanitizer does not follow fences; the atomic operations beside them it does follow.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  add_link_options(-fsanitize=thread)
elseif(NOT MEMSTREAM_SANITIZE STREQUAL "")
  message(FATAL_ERROR "MEMSTREAM_SANITIZE is '${MEMSTREAM_SANITIZE}': use address, thread or nothing")
endif()

if(MEMSTREAM_COVERAGE)
  # Threads that run one line at once lose counts, but the counter of what ran is above 0 all the same; what gcov works out
  # as a difference of counters may be off (gcovr.cfg). Atomic counters made the tests take eight times as long.
  add_compile_definitions(MEMSTREAM_COVERAGE)
  add_compile_options(--coverage -fprofile-update=single)
  add_link_options(--coverage)
  # In every program and library, since each has counters of its own.
  add_library(memstream_coverage_exit OBJECT ${PROJECT_SOURCE_DIR}/cmake/coverage_at_quick_exit.c)
  target_sources(memstream_flags INTERFACE $<TARGET_OBJECTS:memstream_coverage_exit>)
endif()

if(MEMSTREAM_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "MEMSTREAM_FUZZ needs clang, which brings libFuzzer: use the preset 'fuzz'")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
