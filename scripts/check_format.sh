#!/usr/bin/env bash
# Every C++ source that is not ignored is as .clang-format wants it.
set -euo pipefail
git ls-files --cached --others --exclude-standard '*.cpp' '*.h' | sort -u | while read -r file; do
  [ ! -f "$file" ] || echo "$file"
done | xargs clang-format --dry-run -Werror
