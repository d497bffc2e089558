#!/usr/bin/env bash
# setup_python.sh REQUIREMENTS: installs them into .venv. PIP_ARGS goes to pip; torch is left out when Torch_DIR names
# an installed libtorch or TRAIN is OFF. Otherwise, without PIP_ARGS, torch is PyTorch's build for CPUs where its index
# answers, else what pip finds: on PyPI one for GPUs, ten times as large.
set -euo pipefail
pip=.venv/bin/pip
[ -x .venv/bin/python ] || python3 -m venv .venv
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
if [ -n "${Torch_DIR:-}" ] || [ "${TRAIN:-ON}" = OFF ]; then grep -v '^torch' "$1" >"$wanted"; else cp "$1" "$wanted"; fi
args=(--quiet --disable-pip-version-check)
# shellcheck disable=SC2206
args+=(${PIP_ARGS:-})
if .venv/bin/python scripts/torch_wheel.py wanted "$wanted"; then
  echo "looking which torch there is"
  if [ -z "${PIP_ARGS:-}" ]; then
    index=$(.venv/bin/python scripts/torch_wheel.py index "$wanted") || index=''
    [ -z "$index" ] || args+=(--extra-index-url "$index")
  fi
  # A dry run of pip before 24.1 downloads everything; so does one that is not lazy where an index does not tell what
  # its wheels need.
  if $pip install "${args[@]}" 'pip>=24.1' 2>/dev/null; then
    $pip install "${args[@]}" --dry-run --use-feature=fast-deps --report - -r "$wanted" 2>/dev/null |
      .venv/bin/python scripts/torch_wheel.py say || true
  fi
fi
echo "installing $1 into .venv"
$pip install "${args[@]}" -r "$wanted"
