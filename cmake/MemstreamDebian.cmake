# The Debian packages, which CPack makes of the components of the installation: scripts/package.sh. Included with
# MEMSTREAM_DEBIAN, which also lays the files out as Debian does: the preset "debian".
if(NOT TARGET memstream_near OR NOT MEMSTREAM_SCDOC OR NOT MEMSTREAM_BUILD_TOOLS)
  message(FATAL_ERROR "MEMSTREAM_DEBIAN needs all parts: set MEMSTREAM_NEAR=ON and MEMSTREAM_BUILD_TOOLS=ON, and "
    "install libhiredis-dev and scdoc")
endif()

# ---- the package of Python, for the system's interpreter ----

set(debian_python ${PROJECT_BINARY_DIR}/debian/python)
file(GLOB_RECURSE python_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/clients/python/memstream/*.py)
add_custom_command(OUTPUT ${debian_python}/made
  COMMAND /usr/bin/python3 ${PROJECT_SOURCE_DIR}/scripts/debian_python.py ${PROJECT_SOURCE_DIR} ${debian_python}
  COMMAND ${CMAKE_COMMAND} -E touch ${debian_python}/made
  DEPENDS ${python_sources} ${PROJECT_SOURCE_DIR}/scripts/debian_python.py
    ${PROJECT_SOURCE_DIR}/clients/python/pyproject.toml ${PROJECT_SOURCE_DIR}/clients/python/setup.py
  VERBATIM)
add_custom_target(memstream_debian_python ALL DEPENDS ${debian_python}/made)
install(DIRECTORY ${debian_python}/dist-packages DESTINATION lib/python3 COMPONENT python)
install(DIRECTORY ${debian_python}/bin/ DESTINATION bin USE_SOURCE_PERMISSIONS COMPONENT python)

# ---- the packages ----

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME memstream)
set(CPACK_PACKAGE_VENDOR MemStream)
# Debian's own variables name who makes the packages.
set(CPACK_PACKAGE_CONTACT "MemStream contributors <maintainers@memstream.invalid>")
if(DEFINED ENV{DEBEMAIL} AND DEFINED ENV{DEBFULLNAME})
  set(CPACK_PACKAGE_CONTACT "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
endif()
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL runtime near development tools python)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)

set(release "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")
set(debian_files ${PROJECT_SOURCE_DIR}/cmake/debian)
set(documents ${PROJECT_BINARY_DIR}/debian/documents)
file(READ ${PROJECT_SOURCE_DIR}/LICENSE MEMSTREAM_LICENSE)
# The licence below its heading and the line of copyright, as a field of Debian's format has it.
string(REGEX REPLACE "^[^\n]*\n\n[^\n]*\n\n" "" MEMSTREAM_LICENSE "${MEMSTREAM_LICENSE}")
string(STRIP "${MEMSTREAM_LICENSE}" MEMSTREAM_LICENSE)
string(REPLACE "\n" "\n " MEMSTREAM_LICENSE " ${MEMSTREAM_LICENSE}")
string(REPLACE "\n \n" "\n .\n" MEMSTREAM_LICENSE "${MEMSTREAM_LICENSE}")
configure_file(${debian_files}/copyright.in ${documents}/copyright @ONLY)
# The day of the change log, so that two builds of one tree make the same packages.
file(TIMESTAMP ${PROJECT_SOURCE_DIR}/CHANGELOG.md day "%a, %d %b %Y 00:00:00 +0000" UTC)
file(CONFIGURE OUTPUT ${documents}/changelog.Debian @ONLY CONTENT
  "memstream (@release@) unstable; urgency=medium\n\n  * Packages of release @PROJECT_VERSION@.\n\n -- @CPACK_PACKAGE_CONTACT@  @day@\n")
configure_file(${PROJECT_SOURCE_DIR}/CHANGELOG.md ${documents}/changelog COPYONLY)
foreach(log IN ITEMS changelog changelog.Debian)
  execute_process(COMMAND gzip --force --best --no-name ${documents}/${log} COMMAND_ERROR_IS_FATAL ANY)
endforeach()

# debian_package(COMPONENT NAME SECTION DEPENDS SUMMARY TEXT CONTROL...): TEXT is one paragraph; CONTROL are files for
# the package manager.
function(debian_package component name section depends summary text)
  string(TOUPPER ${component} key)
  set(CPACK_DEBIAN_${key}_PACKAGE_NAME ${name} PARENT_SCOPE)
  set(CPACK_DEBIAN_${key}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(CPACK_DEBIAN_${key}_PACKAGE_DEPENDS "${depends}" PARENT_SCOPE)
  set(CPACK_DEBIAN_${key}_DESCRIPTION "${summary}\n${text}" PARENT_SCOPE)
  set(CPACK_DEBIAN_${key}_PACKAGE_CONTROL_EXTRA "${ARGN}" PARENT_SCOPE)
  install(FILES ${documents}/copyright ${documents}/changelog.gz ${documents}/changelog.Debian.gz
    DESTINATION share/doc/${name} COMPONENT ${component})
endfunction()

set(what "MemStream is a key-value cache in shared memory, which the processes of one machine use together.")
debian_package(runtime libcache1 libs "" "key-value cache in shared memory - library"
  "${what} This package has the library." ${debian_files}/triggers)
debian_package(near libmemstream-near1 libs "libcache1 (= ${release})" "key-value cache in shared memory - near cache of Redis"
  "${what} This package has the library that keeps a part of a Redis in it." ${debian_files}/triggers)
debian_package(development libmemstream-dev libdevel "libcache1 (= ${release}), libmemstream-near1 (= ${release})"
  "key-value cache in shared memory - development files"
  "${what} This package has the headers for C and C++, the static library and the manual of the functions.")
debian_package(tools memstream-tools utils "libcache1 (= ${release})" "key-value cache in shared memory - command"
  "${what} This package has the command memstream, which shows and changes what a cache holds.")
debian_package(python python3-memstream python "libcache1 (= ${release}), python3 (>= 3.9)"
  "key-value cache in shared memory - Python package"
  "${what} This package has the module memstream and its programs." ${debian_files}/postinst ${debian_files}/prerm)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
include(CPack)
