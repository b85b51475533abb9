# How a test program is made known to ctest.

# The programs that run under the thread sanitizer: of that build, the only ones that are needed.
add_custom_target(threads_tests)

# Those that tell most, which scripts/test.sh runs before it has built the others.
add_custom_target(smoke_tests)

# Of each part some, which another compiler could break: "test.sh --full" runs them by the preset clang.
add_custom_target(portability_tests)

# The tests that scripts/test.sh runs under memcheck; "test.sh --full" runs all. Of every part one, and what the others
# have least of: bytes that are read before they are written.
set(MEMSTREAM_MEMCHECK_QUICK
  arena_test block_test eviction_test format_test geometry_test index_test layout_test options_test
  segment_conformance_test shard_check_test shard_damage_test shard_lock_test shard_overwrite_test shard_pins_test
  shard_rebuild_test shard_test status_test
  abi_cache_test.sysv abi_cache_test.posix abi_memstream_test.sysv abi_memstream_test.posix
  attached_test.posix batch_test.sysv lease_test.posix threads_test.sysv
  fuzz_replay.attach fuzz_replay.repair)

# Memcheck runs the programs as users get them, which are built anyway; not where another tool is built in, and not on
# seeded bugs. Threads take turns (--fair-sched); otherwise one that spins can keep the others out for minutes.
find_program(MEMSTREAM_VALGRIND valgrind)
set(memcheck)
if(MEMSTREAM_VALGRIND AND NOT MEMSTREAM_SANITIZE AND NOT MEMSTREAM_COVERAGE AND NOT MEMSTREAM_MUTANT)
  set(memcheck ${MEMSTREAM_VALGRIND} --quiet --error-exitcode=99 --leak-check=full --trace-children=yes --vgdb=no
    --fair-sched=yes --num-callers=30 --suppressions=${CMAKE_CURRENT_SOURCE_DIR}/valgrind.supp)
endif()

# memstream_declare_test(NAME name COMMAND command... [LABELS label...] [PROPERTIES name value...])
#
# add_test(), and, unless a label is no_valgrind, torture or full, the same once more under Valgrind: as memcheck.name,
# with the label memcheck, by which the presets tell the two apart, and with memcheck_quick if it is in
# MEMSTREAM_MEMCHECK_QUICK.
function(memstream_declare_test)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "" "NAME" "COMMAND;LABELS;PROPERTIES")
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_COMMAND})
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABELS}" ${ARG_PROPERTIES})
  if(memcheck AND NOT ARG_LABELS MATCHES "no_valgrind|torture|full")
    set(labels memcheck)
    if(ARG_NAME IN_LIST MEMSTREAM_MEMCHECK_QUICK)
      list(APPEND labels memcheck_quick)
      set_property(GLOBAL APPEND PROPERTY MEMSTREAM_MEMCHECK_QUICK_FOUND ${ARG_NAME})
    endif()
    add_test(NAME memcheck.${ARG_NAME} COMMAND ${memcheck} ${ARG_COMMAND})
    set_tests_properties(memcheck.${ARG_NAME} PROPERTIES LABELS "${labels}" ${ARG_PROPERTIES})
  endif()
endfunction()

# Ends the configuration if MEMSTREAM_MEMCHECK_QUICK names a test that is not there: it would be left out unnoticed.
function(memstream_check_memcheck_quick)
  if(NOT memcheck)
    return()
  endif()
  get_property(found GLOBAL PROPERTY MEMSTREAM_MEMCHECK_QUICK_FOUND)
  set(absent ${MEMSTREAM_MEMCHECK_QUICK})
  list(REMOVE_ITEM absent ${found})
  if(absent)
    message(FATAL_ERROR "Invalid MEMSTREAM_MEMCHECK_QUICK: no test runs under memcheck as ${absent}. "
      "Take it out of cmake/MemstreamTests.cmake, or give its new name.")
  endif()
endfunction()

# memstream_register_test(NAME name [LABELS label...] [TIMEOUT seconds] [BACKEND backend] [BACKENDS] [COST cost])
#
# Registers the program `name` with ctest.
#   BACKEND   told by MEMSTREAM_BACKEND, where the test is about one of them.
#   BACKENDS  once per backend, as name.sysv and name.posix, told by MEMSTREAM_BACKEND.
#   COST      the higher, the earlier it starts.
#   LABELS    what the test needs or what it is worth running under:
#     threads      runs threads against each other; the thread sanitizer's suite
#     processes    starts processes, which want both cores: one such test at a time, beside others that want one
#     no_valgrind  not under Valgrind, for a reason that stands beside the label
#     smoke        one of the first that scripts/test.sh builds and runs
#     portability  what another compiler could break: the tests of the preset clang
#     full         not in scripts/test.sh, but in "test.sh --full"
#     twin         given to name.sysv of BACKENDS: the same program as name.posix. The sanitizers run it with "--full"
#     text, model, torture  look at the tree, at the models, at the library as users have it: once, with the release
#   TIMEOUT   after which ctest ends it; 300 s unless told otherwise.
# Exit code 77 is "skipped": this machine cannot run it, and the test said why.
function(memstream_register_test)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "BACKENDS" "NAME;TIMEOUT;BACKEND;COST" "LABELS")
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threads_tests ${ARG_NAME})
  endif()
  if("smoke" IN_LIST ARG_LABELS)
    add_dependencies(smoke_tests ${ARG_NAME})
  endif()
  if("portability" IN_LIST ARG_LABELS)
    add_dependencies(portability_tests ${ARG_NAME})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set(properties TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77)
  if(ARG_COST)
    list(APPEND properties COST ${ARG_COST})
  endif()
  if("processes" IN_LIST ARG_LABELS)
    list(APPEND properties RESOURCE_LOCK processes)
  endif()
  set(command COMMAND $<TARGET_FILE:${ARG_NAME}>)
  if(ARG_BACKENDS)
    memstream_declare_test(NAME ${ARG_NAME}.posix ${command} LABELS ${ARG_LABELS}
      PROPERTIES ${properties} ENVIRONMENT MEMSTREAM_BACKEND=posix)
    memstream_declare_test(NAME ${ARG_NAME}.sysv ${command} LABELS ${ARG_LABELS} twin
      PROPERTIES ${properties} ENVIRONMENT MEMSTREAM_BACKEND=sysv)
  elseif(ARG_BACKEND)
    memstream_declare_test(NAME ${ARG_NAME} ${command} LABELS ${ARG_LABELS}
      PROPERTIES ${properties} ENVIRONMENT MEMSTREAM_BACKEND=${ARG_BACKEND})
  else()
    memstream_declare_test(NAME ${ARG_NAME} ${command} LABELS ${ARG_LABELS} PROPERTIES ${properties})
  endif()
endfunction()

# The headers that nearly every test includes, compiled once: parsing them was half of what building the tests took. An
# executable, since only its objects are compiled with just the options of the tests.
add_executable(memstream_test_headers support/test_headers.cpp)
target_link_libraries(memstream_test_headers PRIVATE memstream_doctest_main memstream_test_support fmt::fmt)
target_precompile_headers(memstream_test_headers PRIVATE
  <doctest/doctest.h> <fmt/format.h>
  <algorithm> <atomic> <chrono> <cstring> <functional> <map> <memory> <random> <string> <string_view> <thread> <vector>)

# The tests' own code is compiled for little optimisation: -O2 took the compiler twice as long. The engine, the backends
# and libcache.so, which the programs link, are what users get.
set(memstream_test_options $<$<CONFIG:RelWithDebInfo,Release>:-Og>)
if(MEMSTREAM_SANITIZE OR MEMSTREAM_COVERAGE)
  # With a tool in it as well, optimising took most of the compiler's time.
  set(memstream_test_options -O0)
endif()
if(MEMSTREAM_COVERAGE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Whose lines count is the library, with those of its headers that are compiled into a test.
  list(APPEND memstream_test_options "-fprofile-filter-files=.*/(core|backends|api)/.*")
endif()
target_compile_options(memstream_test_headers PRIVATE ${memstream_test_options})

# memstream_add_test(NAME name SOURCES file... [LIBRARIES target...] [argument...])
#
# A doctest program. It links the engine, the backends, tests/support and the LIBRARIES given; the rest is as for
# memstream_register_test.
function(memstream_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "BACKENDS" "NAME;TIMEOUT;BACKEND;COST" "SOURCES;LIBRARIES;LABELS")
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE
    memstream_doctest_main memstream_test_support ${ARG_LIBRARIES} fmt::fmt)
  target_compile_options(${ARG_NAME} PRIVATE ${memstream_test_options})
  target_precompile_headers(${ARG_NAME} REUSE_FROM memstream_test_headers)
  set(options
    NAME ${ARG_NAME} TIMEOUT "${ARG_TIMEOUT}" BACKEND "${ARG_BACKEND}" COST "${ARG_COST}" LABELS ${ARG_LABELS})
  if(ARG_BACKENDS)
    list(APPEND options BACKENDS)
  endif()
  memstream_register_test(${options})
endfunction()
