#!/usr/bin/env bash
# setup_python.sh REQUIREMENTS: installs them into .venv. PIP_ARGS goes to pip; torch is left out when Torch_DIR names
# an installed libtorch.
set -euo pipefail
[ -x .venv/bin/python ] || python3 -m venv .venv
echo "installing $1 into .venv"
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
if [ -n "${Torch_DIR:-}" ]; then grep -v '^torch' "$1" >"$wanted"; else cp "$1" "$wanted"; fi
# shellcheck disable=SC2086
.venv/bin/pip install --quiet --disable-pip-version-check ${PIP_ARGS:-} -r "$wanted"
