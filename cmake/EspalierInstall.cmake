# cmake --install: the programs, libespalier.so with its headers, and what find_package(espalier) and pkg-config read.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS espalier RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
if(ESPALIER_TRAIN)  # beside it, where it is looked for
  install(TARGETS espalier-train RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(TARGETS espalier_shared EXPORT espalier LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/espalier" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")

set(package "${CMAKE_INSTALL_LIBDIR}/cmake/espalier")
install(EXPORT espalier NAMESPACE espalier:: FILE espalier-config.cmake DESTINATION "${package}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/espalier-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/espalier-config-version.cmake" DESTINATION "${package}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/espalier.pc.in" "${PROJECT_BINARY_DIR}/espalier.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/espalier.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
