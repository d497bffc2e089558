// The version of this library; CMakeLists.txt reads it from here.
#pragma once

#define ESPALIER_VERSION "0.1.0"
