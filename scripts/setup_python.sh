#!/usr/bin/env bash
# .venv with a recent cmake, the torch wheel (unless Torch_DIR names an installed libtorch) and what the tests need.
set -euo pipefail
[ -x .venv/bin/python ] || python3 -m venv .venv
echo "installing python packages into .venv"
# shellcheck disable=SC2086
.venv/bin/pip install --quiet --disable-pip-version-check ${PIP_ARGS:-} -r requirements.txt
