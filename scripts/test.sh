#!/usr/bin/env bash
# test.sh [quick]: style, unit tests, the command line against transformers, fuzzing. Runs all of them, then says what
# failed. Quick: samples of the long suites, the command line's quick tests, no fuzzing.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" # ctest comes with the wheel of CMake
failed=()
report=()
step() {
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  if "$@"; then report+=("$name ok ($((SECONDS - start)) s)"); else
    report+=("$name FAILED")
    failed+=("$name")
  fi
}
# Files of tests side by side: one of them waits for Python half of its time. Training's threads sleep while they wait.
pytest=(.venv/bin/python -m pytest -q -ra --strict-markers -p no:cacheprovider --durations 40 --durations-min 4
  -n auto --maxprocesses 4 --dist loadfile tests/cli)
export OMP_WAIT_POLICY=passive
step "style" scripts/lint.sh
if [ "${1:-}" = quick ]; then
  name="make check"
  step "unit tests, samples" ctest --test-dir build/release --output-on-failure --timeout 900 -j 2 -LE whole
  step "command line, quick tests" "${pytest[@]}" -m "not slow"
else
  name="make test"
  step "unit tests" ctest --test-dir build/release --output-on-failure --timeout 900 -j 2 -LE sample
  grep -h $'^law\t' build/release/Testing/Temporary/LastTest.log
  step "command line" "${pytest[@]}"
  step "fuzzing" scripts/fuzz.sh "${FUZZ_SECONDS:-20}"
fi
echo "== $(IFS=';' && echo "${report[*]}" | sed 's/;/; /g')"
if [ ${#failed[@]} -eq 0 ]; then echo "$name: all passed in $SECONDS s"; else
  echo "$name: FAILED: ${failed[*]}"
  exit 1
fi
