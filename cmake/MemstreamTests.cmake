# How a test program is made known to ctest.

# The programs that run under the thread sanitizer: of that build, the only ones that are needed.
add_custom_target(threads_tests)

# memstream_register_test(NAME name [LABELS label...] [TIMEOUT seconds] [BACKENDS])
#
# Registers the program `name` with ctest.
#   BACKENDS  once per backend, as name.sysv and name.posix, told by MEMSTREAM_BACKEND.
#   LABELS    what the test needs or what it is worth running under:
#     threads      runs threads against each other; the thread sanitizer's suite
#     processes    starts processes; runs alone, since it counts on getting both cores
#     no_valgrind  not under Valgrind, for a reason that stands beside the label
#     text, model, torture  look at the tree, at the models, at the library as users have it: once, with the release
#   TIMEOUT   after which ctest ends it; 300 s unless told otherwise.
# Exit code 77 is "skipped": this machine cannot run it, and the test said why.
function(memstream_register_test)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "BACKENDS" "NAME;TIMEOUT" "LABELS")
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threads_tests ${ARG_NAME})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(ARG_BACKENDS)
    set(variants .sysv .posix)
  else()
    set(variants ":")  # One variant, without a suffix.
  endif()
  foreach(variant IN LISTS variants)
    string(REPLACE ":" "" suffix ${variant})
    set(test ${ARG_NAME}${suffix})
    add_test(NAME ${test} COMMAND ${MEMSTREAM_TEST_LAUNCHER} $<TARGET_FILE:${ARG_NAME}>)
    set_tests_properties(${test} PROPERTIES
      LABELS "${ARG_LABELS}"
      TIMEOUT ${ARG_TIMEOUT}
      SKIP_RETURN_CODE 77)
    if(suffix)
      string(SUBSTRING ${suffix} 1 -1 backend)
      set_tests_properties(${test} PROPERTIES ENVIRONMENT MEMSTREAM_BACKEND=${backend})
    endif()
    if("processes" IN_LIST ARG_LABELS)
      set_tests_properties(${test} PROPERTIES RUN_SERIAL ON)
    endif()
  endforeach()
endfunction()

# The headers that nearly every test includes, compiled once: parsing them was half of what building the tests took. An
# executable, since only its objects are compiled with just the options of the tests.
add_executable(memstream_test_headers support/test_headers.cpp)
target_link_libraries(memstream_test_headers PRIVATE memstream_doctest_main memstream_test_support fmt::fmt)
# ccache reads what GCC has preprocessed, which else would say nothing of the precompiled headers.
set(precompiled_options $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
target_compile_options(memstream_test_headers PRIVATE ${precompiled_options})
target_precompile_headers(memstream_test_headers PRIVATE
  <doctest/doctest.h> <fmt/format.h>
  <algorithm> <atomic> <chrono> <cstring> <functional> <map> <memory> <random> <string> <string_view> <thread> <vector>)

# memstream_add_test(NAME name SOURCES file... [LIBRARIES target...] [LABELS ...] [TIMEOUT ...] [BACKENDS])
#
# A doctest program. It links the engine, the backends, tests/support and the LIBRARIES given; the rest is as for
# memstream_register_test.
function(memstream_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "BACKENDS" "NAME;TIMEOUT" "SOURCES;LIBRARIES;LABELS")
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE
    memstream_doctest_main memstream_test_support ${ARG_LIBRARIES} fmt::fmt)
  target_compile_options(${ARG_NAME} PRIVATE ${precompiled_options})
  target_precompile_headers(${ARG_NAME} REUSE_FROM memstream_test_headers)
  set(options NAME ${ARG_NAME} TIMEOUT "${ARG_TIMEOUT}" LABELS ${ARG_LABELS})
  if(ARG_BACKENDS)
    list(APPEND options BACKENDS)
  endif()
  memstream_register_test(${options})
endfunction()
