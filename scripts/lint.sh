#!/usr/bin/env bash
# Include arrows, formatting, text rules.
set -uo pipefail
cd "$(dirname "$0")/.."
code=0
python3 scripts/check_arrows.py || code=1
scripts/check_format.sh || code=1
python3 scripts/check_text.py || code=1
exit $code
