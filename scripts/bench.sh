#!/usr/bin/env bash
# bench.sh MODEL: espalier beside llama.cpp, which is built from PyPI's source into .venv-peer (some minutes, once).
set -euo pipefail
if [ ! -e .venv-peer/.ready ]; then
  python3 -m venv .venv-peer
  echo "building llama.cpp into .venv-peer"
  # shellcheck disable=SC2086
  CMAKE_ARGS="-DGGML_NATIVE=ON" scripts/quietly.sh llama.cpp \
    .venv-peer/bin/pip install --disable-pip-version-check ${PIP_ARGS:-} llama-cpp-python==0.3.36
  touch .venv-peer/.ready
fi
.venv-peer/bin/python benchmarks/peer_llama_cpp.py "$@"
