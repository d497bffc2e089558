#!/usr/bin/env bash
# Every C++ source that is not ignored is as .clang-format wants it, and as the version of requirements.txt reads it:
# versions disagree.
set -euo pipefail
clang_format=.venv/bin/clang-format
[ -x "$clang_format" ] || clang_format=clang-format
git ls-files --cached --others --exclude-standard '*.cpp' '*.h' | sort -u | while read -r file; do
  [ ! -f "$file" ] || echo "$file"
done | xargs "$clang_format" --dry-run -Werror
