# espalier_torch: libtorch by its own files. Its CMake package would do, but that of a CUDA build asks for a CUDA toolkit
# of the same version, which the libraries themselves do not need. Torch_DIR is the package's folder, as for find_package.

if(NOT Torch_DIR)
  file(GLOB Torch_DIR "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake/Torch")
  list(LENGTH Torch_DIR found)
  if(found GREATER 1)
    message(FATAL_ERROR "error: [Torch_DIR] expected one Python in .venv, got '${Torch_DIR}'; try make again without .venv")
  endif()
endif()
cmake_path(ABSOLUTE_PATH Torch_DIR BASE_DIRECTORY "${CMAKE_SOURCE_DIR}" NORMALIZE OUTPUT_VARIABLE torch_package)
cmake_path(SET torch_root NORMALIZE "${torch_package}/../../..")
foreach(library torch torch_cpu c10)
  find_library(lib${library} ${library} PATHS "${torch_root}" PATH_SUFFIXES lib lib64
    "lib/${CMAKE_LIBRARY_ARCHITECTURE}" NO_DEFAULT_PATH NO_CACHE)
endforeach()
if(NOT (libtorch AND libtorch_cpu AND libc10))
  message(FATAL_ERROR "error: [Torch_DIR] expected the folder share/cmake/Torch of an installed libtorch, got "
    "'${Torch_DIR}'; try make build, which installs the wheel, or -DESPALIER_TRAIN=OFF")
endif()
if(EXISTS "${torch_package}/TorchConfig.cmake")
  file(STRINGS "${torch_package}/TorchConfig.cmake" old_strings REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(old_strings)
    message(FATAL_ERROR "error: [Torch_DIR] expected a libtorch of the C++11 ABI, got one of the old ABI; try a newer one")
  endif()
endif()

add_library(espalier_torch INTERFACE)
target_include_directories(espalier_torch SYSTEM INTERFACE
  "${torch_root}/include" "${torch_root}/include/torch/csrc/api/include")
# libtorch.so itself is empty but needs what its build has, CUDA's part among it, which registers as it is loaded: linked
# even where nothing names a symbol of it.
target_link_libraries(espalier_torch INTERFACE "-Wl,--push-state,--no-as-needed" "${libtorch}" "-Wl,--pop-state"
  "${libtorch_cpu}" "${libc10}")
