// What the shared library shows to others.
#pragma once

#define ESPALIER_API __attribute__((visibility("default")))
