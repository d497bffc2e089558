#!/usr/bin/env bash
# CMake options that find libtorch: an installed one (first argument), or the wheel in .venv.
set -euo pipefail
if [ -n "${1:-}" ]; then
  echo "-DTorch_DIR=$1"
else
  echo "-DTorch_DIR=$(.venv/bin/python -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("torch").origin).parent / "share/cmake/Torch")')"
fi
