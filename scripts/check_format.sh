#!/usr/bin/env bash
# Every tracked C++ source is as .clang-format wants it.
set -euo pipefail
git ls-files '*.cpp' '*.h' | xargs clang-format --dry-run -Werror
