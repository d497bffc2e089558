"""Texts that tokenizers are compared on. ESPALIER_CORPUS names a folder of more: the first million characters of each file."""
import os
import pathlib
import random

from conftest import DATA

# Blocks of many scripts, symbols and oddities.
BLOCKS = (0x20, 0xA0, 0x300, 0x370, 0x400, 0x590, 0x600, 0x900, 0xE00, 0x1000, 0x1100, 0x1E00, 0x2000, 0x2190, 0x3040, 0x4E00,
          0xAC00, 0xF900, 0xFE00, 0xFF00, 0x1D400, 0x1F300, 0x20000, 0xE000)  # fmt: skip
LINE_ENDS = {0xA, 0xD}


def texts(count=3000, without=frozenset()):
    """Lines of prose, edge cases, and lines drawn from all blocks with a fixed seed; no line holds a line break."""
    for path in sorted(DATA.glob("*.txt")):
        yield from path.read_text(encoding="utf-8").splitlines()
    if "ESPALIER_CORPUS" in os.environ:
        for path in sorted(pathlib.Path(os.environ["ESPALIER_CORPUS"]).iterdir()):
            for line in path.read_text(encoding="utf-8")[:1_000_000].splitlines():
                yield "".join(c for c in line if ord(c) not in without)
    yield from ["", " ", "  two  spaces ", "a" * 101, "a" * 100, "don't! I'm 3.5% sure…", "ÀÉÎ", "naïve café", "İstanbul"]
    draw = random.Random(5)
    for _ in range(count):
        base = draw.choice(BLOCKS)
        codes = [draw.choice((base + draw.randrange(256), 0x61 + draw.randrange(26), 0x20)) for _ in range(30)]
        yield "".join(chr(code) for code in codes if code not in without | LINE_ENDS and not 0xD800 <= code < 0xE000)
