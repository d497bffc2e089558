"""Text rules of tracked files: no absolute paths of somebody's machine, no left-overs, no documents that are not there."""
import os
import re
import subprocess
import sys

RULES = [
    (re.compile(r"(?<![\w.:/])/(home|root|work|Users|tmp)/"), "an absolute path"),
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "a left-over"),
]
DOCUMENT = re.compile(r"\bdocs/[\w/.-]*\w")
SKIP = ("LICENSE", "scripts/check_text.py")
BINARY = (".gguf", ".safetensors", ".ngram", ".bin", ".png")

LIST = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
found = []
for path in sorted(set(subprocess.run(LIST, capture_output=True, text=True, check=True).stdout.splitlines())):
    if not os.path.exists(path) or path in SKIP or path.endswith(BINARY) or path.startswith("tests/data/"):
        continue
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        found += [f"{path}:{number}: {what}" for rule, what in RULES if rule.search(line)]
        found += [f"{path}:{number}: no {name}" for name in DOCUMENT.findall(line)
                  if not os.path.exists(name) and "://" not in line]  # fmt: skip
print("\n".join(found), end="\n" if found else "")
sys.exit(1 if found else 0)
