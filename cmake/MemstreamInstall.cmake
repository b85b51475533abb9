# What is installed beside the library: the CMake package, the manual, what goes with the command.
# api/install.cmake has the library.
include(CMakePackageConfigHelpers)
set(MEMSTREAM_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/memstream)
configure_package_config_file(cmake/memstreamConfig.cmake.in memstreamConfig.cmake
  INSTALL_DESTINATION ${MEMSTREAM_CMAKE_DIR}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(memstreamConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/memstreamConfig.cmake ${PROJECT_BINARY_DIR}/memstreamConfigVersion.cmake
  DESTINATION ${MEMSTREAM_CMAKE_DIR} COMPONENT development)
install(EXPORT memstream NAMESPACE memstream:: FILE memstreamTargets.cmake DESTINATION ${MEMSTREAM_CMAKE_DIR}
  COMPONENT development)

# ---- the manual ----

find_program(MEMSTREAM_SCDOC scdoc)
if(MEMSTREAM_SCDOC)
  set(man_folder ${PROJECT_BINARY_DIR}/man)
  set(man_stamp ${man_folder}/made)
  add_custom_command(OUTPUT ${man_stamp}
    COMMAND ${PROJECT_SOURCE_DIR}/scripts/man_pages.sh ${man_folder} ${MEMSTREAM_SCDOC}
    COMMAND ${CMAKE_COMMAND} -E touch ${man_stamp}
    DEPENDS ${PROJECT_SOURCE_DIR}/scripts/man_pages.py ${PROJECT_SOURCE_DIR}/scripts/man_pages.sh
      ${PROJECT_SOURCE_DIR}/scripts/c_reference.py ${PROJECT_SOURCE_DIR}/docs/cli.md
      ${PROJECT_SOURCE_DIR}/docs/man/memstream.7.md ${PROJECT_SOURCE_DIR}/api/cache.h ${PROJECT_SOURCE_DIR}/api/memstream.h
      ${PROJECT_SOURCE_DIR}/api/memstream_options.h ${PROJECT_SOURCE_DIR}/api/memstream_limits.h
      ${PROJECT_SOURCE_DIR}/api/memstream_metrics.h ${PROJECT_SOURCE_DIR}/api/memstream_tags.h
      ${PROJECT_SOURCE_DIR}/api/memstream_watch.h
    VERBATIM)
  add_custom_target(memstream_man ALL DEPENDS ${man_stamp})
  install(DIRECTORY ${man_folder}/man1 ${man_folder}/man7 DESTINATION ${CMAKE_INSTALL_MANDIR} COMPONENT tools)
  install(DIRECTORY ${man_folder}/man3 DESTINATION ${CMAKE_INSTALL_MANDIR} COMPONENT development)
else()
  add_custom_target(memstream_man)
  message(STATUS "scdoc is not installed: the manual is not made")
endif()

# ---- what goes with the command ----

if(MEMSTREAM_BUILD_TOOLS)
  set(completion ${PROJECT_BINARY_DIR}/completion/memstream)
  add_custom_command(OUTPUT ${completion}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/completion
    COMMAND $<TARGET_FILE:memstream_cli> completion > ${completion}
    DEPENDS memstream_cli
    VERBATIM)
  add_custom_target(memstream_completion ALL DEPENDS ${completion})
  install(FILES ${completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT tools)
  install(FILES
      ${PROJECT_SOURCE_DIR}/cli/systemd/memstream-metrics.service
      ${PROJECT_SOURCE_DIR}/cli/systemd/memstream-metrics.timer
      ${PROJECT_SOURCE_DIR}/cli/systemd/memstream-near.service
      ${PROJECT_SOURCE_DIR}/docs/prometheus-alerts.yml
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/memstream-tools/examples COMPONENT tools)
endif()
