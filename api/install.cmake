# What of the library is installed: the shared one with the link names libcache.so and libmemstream.so, the static one,
# the headers, the description for pkg-config.
install(FILES ${memstream_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/memstream COMPONENT development)
install(DIRECTORY ${memstream_old_names} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/memstream COMPONENT development)
install(TARGETS memstream_cache EXPORT memstream
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${CMAKE_INSTALL_INCLUDEDIR}/memstream)
# The same file by the name of the project: what links by -lmemstream needs libcache.so.1 at run time.
file(CREATE_LINK libcache.so.${MEMSTREAM_ABI_VERSION} ${CMAKE_CURRENT_BINARY_DIR}/libmemstream.so SYMBOLIC)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/libmemstream.so DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/libmemstream.a DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)

# memstream.pc finds the installed tree by its own place, so that the tree can be moved.
set(pc_folder ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_libdir ${pc_folder} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH pc_includedir ${pc_folder} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(${PROJECT_SOURCE_DIR}/cmake/memstream.pc.in memstream.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/memstream.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT development)
