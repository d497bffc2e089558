"""README is true: its commands run and print what it shows, its C++ compiles, its table of attentions is the cards'."""
import re
import subprocess

import pytest
from conftest import BINARY, ROOT, run_json

# <!-- not run: reason -->, then a block of ```sh, then, where its output is shown, a block of ```text; each with
# three or more backticks. The output is stdout, which must be equal, and then stderr, whose numbers (times) may differ.
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]*?) -->\n+)?(?P<fence>`{3,})sh\n(?P<text>.*?)(?P=fence)\n"
    r"(?:\n+(?P<shown>`{3,})text\n(?P<output>.*?)^(?P=shown)$)?",
    re.S | re.M,
)
CPP = re.compile(r"^```cpp\n(.*?)^```$", re.S | re.M)
ATTENTION = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \|$", re.M)
NUMBER = re.compile(r"\d+(\.\d+)?")
README = (ROOT / "README.md").read_text()
BLOCKS = [(m["text"], m["output"], m["reason"]) for m in BLOCK.finditer(README)]


@pytest.mark.slow
@pytest.mark.parametrize("text,output,reason", BLOCKS, ids=[text.splitlines()[0][:60] for text, _, _ in BLOCKS])
def test_block(text, output, reason, tmp_path):
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
    if output is not None:
        assert output[: len(done.stdout)] == done.stdout
        assert NUMBER.sub("#", output[len(done.stdout) :]) == NUMBER.sub("#", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("program", CPP.findall(README))
def test_program_compiles(program):
    command = ["c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Werror", "-Isrc", "-Iinclude", "-x", "c++", "-"]
    done = subprocess.run(command, cwd=ROOT, input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_attentions_are_those_of_the_cards():
    """`make pictures` writes the table; what it lacks is no error, so that an attention costs no line of README."""
    [found] = run_json("inspect", "--attentions", "--json")
    cards = {card["name"]: (card["summary"], card["paper"]) for card in found["attentions"]}
    rows = {name: (summary, paper) for name, summary, paper in ATTENTION.findall(README)}
    assert rows and rows == {name: cards.get(name) for name in rows}
