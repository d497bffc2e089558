#!/usr/bin/env bash
# quietly.sh NAME COMMAND…: the command's output is shown only when it fails, or when it goes on for long, as its last
# line now and then.
set -euo pipefail
name=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
start=$SECONDS
env "$@" >"$log" 2>&1 &
command=$!
trap 'kill "$command" 2>/dev/null; rm -f "$log"; exit 130' INT TERM
shown=0
while kill -0 "$command" 2>/dev/null; do
  sleep 0.05
  if [ $((SECONDS - start - shown)) -ge 15 ]; then
    shown=$((SECONDS - start))
    echo "$name: ${shown} s, $(tail -n 1 "$log" | cut -c1-100)"
  fi
done
wait "$command" || {
  code=$?
  cat "$log"
  echo "$name failed" >&2
  exit "$code"
}
