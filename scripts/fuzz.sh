#!/usr/bin/env bash
# fuzz.sh [SECONDS]: every fuzz target for that long, under ASan and UBSan, two at a time. What a target finds stays in
# build/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
targets=(gguf safetensors tokenizer sentencepiece state)
mkdir -p build/fuzz/found
[ -f build/fuzz/build.ninja ] || scripts/quietly.sh configure-fuzz .venv/bin/cmake --preset fuzz
scripts/quietly.sh build-fuzz .venv/bin/cmake --build build/fuzz --target "${targets[@]/%/_fuzz}"
.venv/bin/python fuzz/make_seeds.py build/fuzz/seeds
fuzz() {
  local name=$1 log=build/fuzz/$1.log
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/seeds/$name"
  if "build/fuzz/fuzz/${name}_fuzz" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=3000 \
    -artifact_prefix="build/fuzz/found/$name-" "build/fuzz/corpus/$name" "build/fuzz/seeds/$name" >"$log" 2>&1; then
    echo "$name: $(grep -aoE 'Done [0-9]+ runs' "$log" | tail -1)"
  else
    echo "$name: FAILED, see $log"
    tail -30 "$log"
    return 1
  fi
}
export -f fuzz
export seconds
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'fuzz {}'
