#!/usr/bin/env bash
# Style, unit tests, the command line against transformers. Runs all of them, then says what failed.
set -uo pipefail
cd "$(dirname "$0")/.."
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
step "style" scripts/lint.sh
step "unit tests" ctest --test-dir build/release --output-on-failure --timeout 900 -j 2
grep -h $'^law\t' build/release/Testing/Temporary/LastTest.log
step "command line" .venv/bin/python -m pytest -q -ra -p no:cacheprovider tests/cli
step "fuzzing" scripts/fuzz.sh "${FUZZ_SECONDS:-20}"
echo "== $(IFS=';' && echo "${report[*]}" | sed 's/;/; /g')"
if [ ${#failed[@]} -eq 0 ]; then echo "make test: all passed in $SECONDS s"; else
  echo "make test: FAILED: ${failed[*]}"
  exit 1
fi
