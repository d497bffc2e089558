#!/usr/bin/env bash
# Where CMake finds libtorch: Torch_DIR if set, else inside the wheel in .venv; nowhere if TRAIN is OFF.
set -euo pipefail
if [ -n "${Torch_DIR:-}" ]; then
  echo "$Torch_DIR"
elif [ "${TRAIN:-ON}" = OFF ]; then
  :
else
  .venv/bin/python - <<'PY'
import importlib.util
import pathlib

print(pathlib.Path(importlib.util.find_spec("torch").origin).parent / "share/cmake/Torch")
PY
fi
