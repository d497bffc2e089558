# Compiler settings, dependencies and the one function that makes a library out of a folder.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(ESPALIER_CCACHE ccache)
if(ESPALIER_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${ESPALIER_CCACHE}")
endif()

# -ffp-contract=off everywhere: g++ fuses explicit intrinsics otherwise, differently in vector and scalar code.
# Off: -Wrestrict and -Wmaybe-uninitialized, where g++ 12 sees faults in std::string and nlohmann-json that are not there.
add_compile_options(-Wall -Wextra -Werror -Wno-missing-field-initializers -ffp-contract=off -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized)
endif()
set(ESPALIER_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")
if(ESPALIER_SANITIZE)
  add_compile_options(-fsanitize=${ESPALIER_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${ESPALIER_SANITIZE})
endif()

find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenSSL REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)

# espalier_folder(NAME LIBRARIES...): a static library of src/NAME/**/*.cpp. Files named train.cpp or *_train.cpp belong
# to the training half, plain.cpp and *_plain.cpp to the tests. Adding a source file needs no change here.
function(espalier_folder name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp")
  list(FILTER sources EXCLUDE REGEX "[/_](train|plain)\\.cpp$|main\\.cpp$")
  if(NOT sources)
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/${name}_empty.cpp" "")
    set(sources "${CMAKE_CURRENT_BINARY_DIR}/${name}_empty.cpp")
  endif()
  add_library(espalier_${name} STATIC ${sources})
  target_include_directories(espalier_${name} PUBLIC "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
  target_link_libraries(espalier_${name} PUBLIC ${ARGN})
  set_target_properties(espalier_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)  # libespalier.so is made of them
endfunction()
