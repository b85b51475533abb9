# MEMSTREAM_MUTANT=name builds the library with one seeded bug of tests/mutants/ in it, to see which suite catches it. The
# sources stay as they are: a changed copy of one file takes the place of the original in this build tree.
set(MEMSTREAM_MUTANT "" CACHE STRING "Seeded bug to build the library with, or empty (scripts/mutants.sh --list)")
if(NOT MEMSTREAM_MUTANT)
  return()
endif()

set(mutant_python /usr/bin/python3)  # MEMSTREAM_PYTHON belongs to the tests, which come later.
# A folder for each: the copy of a header that an earlier one left would still be found first, and ccache, which does not
# look for headers that have appeared where others are searched first, would take one mutant's objects for another's.
set(mutant_folder ${PROJECT_BINARY_DIR}/mutant/${MEMSTREAM_MUTANT})
file(GLOB mutant_tables CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/mutants/*.py)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${mutant_tables})
execute_process(
  COMMAND ${mutant_python} ${PROJECT_SOURCE_DIR}/tests/mutants/mutate.py
    ${MEMSTREAM_MUTANT} ${PROJECT_SOURCE_DIR} ${mutant_folder}
  OUTPUT_VARIABLE mutated_file
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "MEMSTREAM_MUTANT=${MEMSTREAM_MUTANT} cannot be built")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${mutated_file})

set(is_replaced FALSE)
if(mutated_file MATCHES "\\.h$")
  # Included by its path from the root, so the copy is found where the root is searched first; in every target, since
  # what is inline must be the same everywhere.
  target_include_directories(memstream_flags BEFORE INTERFACE ${mutant_folder})
  # Its own come before those of the flags, and the root is one of them.
  target_include_directories(memstream_cache BEFORE PRIVATE ${mutant_folder})
  set(is_replaced TRUE)
endif()
foreach(target IN ITEMS memstream_core memstream_backends memstream_cache)
  get_target_property(folder ${target} SOURCE_DIR)
  get_target_property(sources ${target} SOURCES)
  file(RELATIVE_PATH source ${folder} ${PROJECT_SOURCE_DIR}/${mutated_file})
  if(source IN_LIST sources)
    list(TRANSFORM sources REPLACE "^${source}$" "${mutant_folder}/${mutated_file}")
    set_target_properties(${target} PROPERTIES SOURCES "${sources}")
    set(is_replaced TRUE)
  endif()
endforeach()
if(NOT is_replaced)
  message(FATAL_ERROR "MEMSTREAM_MUTANT=${MEMSTREAM_MUTANT} changes ${mutated_file}, which is no source of the library")
endif()
message(STATUS "The library is built with the seeded bug ${MEMSTREAM_MUTANT} in ${mutated_file}")
