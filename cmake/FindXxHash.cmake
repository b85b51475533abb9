# Finds the header of xxHash, which ships no CMake package. Defines XxHash::header; nothing is linked, core/layout/hash.h
# inlines what it uses.
find_path(XxHash_INCLUDE_DIR NAMES xxhash.h DOC "Directory of xxhash.h")
mark_as_advanced(XxHash_INCLUDE_DIR)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(XxHash REQUIRED_VARS XxHash_INCLUDE_DIR)
if(XxHash_FOUND AND NOT TARGET XxHash::header)
  add_library(XxHash::header INTERFACE IMPORTED)
  target_include_directories(XxHash::header INTERFACE ${XxHash_INCLUDE_DIR})
endif()
