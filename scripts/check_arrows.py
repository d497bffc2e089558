"""Include arrows: who may include whom (ARCHITECTURE.md), and where torch headers may stand."""
import os
import re
import subprocess
import sys

# What runs a model, for the folders above.
RUNTIME = {"core", "kernels", "attention", "checkpoint", "tokenizers", "models", "decoding"}
ALLOWED = {
    "core": set(),
    "kernels": {"core"},
    "attention": {"core", "kernels"},
    "tokenizers": {"core"},
    "checkpoint": {"core"},
    "models": {"core", "kernels", "attention", "checkpoint", "tokenizers"},
    "decoding": {"core", "kernels", "attention", "checkpoint", "tokenizers", "models"},
    "evaluation": RUNTIME,
    "program": {"core"},
    "library": RUNTIME | {"evaluation"},
    "cli": RUNTIME | {"evaluation", "program"},
    "training": RUNTIME | {"program"},
}
TORCH = re.compile(r'#include [<"](torch|ATen|c10)/')
# What all attentions share; their own folders stand beside these and build on them.
SHARED = ("src/attention/shared/", "src/attention/state/")
OF_A_MECHANISM = re.compile(r'#include "attention/(?!shared/|state/)\w+/')


def problems(path):
    folder = path.split("/")[1]
    torch_allowed = folder == "training" or re.search(r"[/_]train\.(cpp|h)$", path)
    includes_torch = includes_log = False
    for number, line in enumerate(open(path), 1):
        includes_torch |= bool(TORCH.match(line))
        includes_log |= "<spdlog/" in line
        if TORCH.match(line) and not torch_allowed:
            yield f"{path}:{number}: torch headers belong in train.*, *_train.* and src/training"
        match = re.match(r'#include "([a-z_]+)/', line)
        if match and match[1] in ALLOWED and match[1] != folder and match[1] not in ALLOWED[folder]:
            if not (torch_allowed and match[1] == "training"):
                yield f"{path}:{number}: {folder} must not include {match[1]}"
        if path.startswith(SHARED) and OF_A_MECHANISM.match(line):
            yield f"{path}:{number}: what mechanisms share must not include a mechanism"
    if includes_torch and includes_log:
        yield f"{path}: torch and spdlog in one file (their fmt versions differ)"


LIST = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/*.cpp", "src/*.h"]
files = subprocess.run(LIST, capture_output=True, text=True, check=True).stdout.split()
found = [p for path in sorted(set(files)) if path.count("/") > 1 and os.path.exists(path) for p in problems(path)]
print("\n".join(found), end="\n" if found else "")
sys.exit(1 if found else 0)
