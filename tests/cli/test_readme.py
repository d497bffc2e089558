"""README's commands are true: every block of ```sh is run, unless a comment before it says why not."""
import re
import subprocess

import pytest
from conftest import BINARY, ROOT

# <!-- not run: reason -->, then the block.
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]*?) -->\n+)?```sh\n(?P<text>.*?)```", re.S)
README = ROOT / "README.md"
BLOCKS = [(m["text"], m["reason"]) for m in BLOCK.finditer(README.read_text())] if README.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("text,reason", BLOCKS, ids=[text.splitlines()[0][:60] for text, _ in BLOCKS])
def test_block(text, reason, tmp_path):
    if reason:
        pytest.skip(f"README: {reason}")
    # In a copy of the folder's names, so that what a command writes does not stay.
    for entry in ROOT.iterdir():
        if entry.name not in (".git", "runs"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/espalier").symlink_to(BINARY)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'PATH="$PWD/bin:$PWD/.venv/bin:$PATH"\n{text}'],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
