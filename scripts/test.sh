#!/usr/bin/env bash
# Unit tests, then the command line against transformers.
set -euo pipefail
ctest --test-dir build/release --output-on-failure --timeout 600 -j 2
.venv/bin/python -m pytest -q tests/cli
