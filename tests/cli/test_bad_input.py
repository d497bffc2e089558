"""Bad input gets one line on stderr, exit 1 or 2, and nothing half-written."""
import json
import os
import shutil
import struct

import pytest
from conftest import BINARY, DATA, MODEL, error_line, run

HEADER_BYTES = 4 << 20  # more than the metadata and tensor list of the model take


@pytest.mark.parametrize(
    "arguments,says",
    [
        ([], "a verb"),
        (["summarize"], "'summarize'"),
        (["generate"], "MODEL"),
        (["generate", MODEL, "--promt", "x"], "--promt"),
        (["generate", MODEL, "--prompt", "x", "--tree-nodes", "0"], "--tree-nodes"),
        (["generate", MODEL, "--prompt", "x", "--tree-nodes", "65"], "--tree-nodes"),
        (["generate", MODEL, "--prompt", "x", "--max-tokens", "-1"], "--max-tokens"),
        (["generate", MODEL, "--prompt", "x", "--max-tokens", "many"], "--max-tokens"),
        (["generate", MODEL, "--prompt", "x", "--temperature", "-0.5"], "--temperature"),
        (["generate", MODEL, "--prompt", "x", "--temperature", "nan"], "--temperature"),
        (["generate", MODEL, "--prompt", "x", "--top-p", "1.5"], "--top-p"),
        (["generate", MODEL, "--prompt", "x", "--seed", "-3"], "--seed"),
        (["generate", MODEL, "--prompt", "x", "--weights", "int3"], "--weights"),
        (["generate", MODEL, "--prompt", "x", "--threads", "0"], "--threads"),
        (["generate", MODEL, "--prompt", "x", "--speculate", "hard"], "--speculate"),
        (["generate", MODEL, "--prompt", "x", "--chat-format", "mine"], "--chat-format"),
        (["generate", MODEL, "--prompt", "x", "--attention", "telepathy"], "telepathy"),
        (["generate", MODEL, "--prompt", "x", "--attention", "window(group=64"], "window(group=64"),
        (["generate", MODEL, "--prompt", "x", "--prompt-file", "y"], "--prompt-file"),
        (["score", MODEL], "--input"),
        (["evaluate", MODEL, "--data", "x", "--task", "charm"], "--task"),
        (["evaluate", MODEL, "--data", "x", "--context", "1"], "--context"),
        (["evaluate", MODEL, "--data", "x", "--context", "64", "--stride", "65"], "--stride"),
        (["bench", MODEL, "--repeats", "0"], "--repeats"),
    ],
)
def test_usage(arguments, says):
    line = error_line(*arguments, code=2)
    assert says in line and "--help" in line


@pytest.mark.parametrize("verb", ["generate", "chat", "score", "tokenize", "inspect", "evaluate", "bench", "ngram"])
def test_help_teaches_with_an_example(verb):
    done = run(verb, "--help")
    assert f"espalier {verb} MODEL" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["--prompt", "x", "--attention", "window(group=-4)"], "group"),
        (["--prompt", "x", "--attention", "window(size=64)"], "'size'"),
        (["--prompt-file", "no-such-file.txt"], "no-such-file.txt"),
        (["--prompt", "x", "--adapter", "no-such-adapter"], "no-such-adapter"),
        (["--prompt", "x", "--ngram-table", "no-such-table"], "no-such-table"),
        (["--prompt", "x", "--state-in", "no-such-state"], "no-such-state"),
        (["--prompt", ""], "prompt"),
        (["--prompt", "x", "--stop", ""], "stop"),
        (["--prompt", "one two three four", "--max-context", "2"], "2"),
    ],
)
def test_generate_refuses(arguments, says):
    assert says in error_line("generate", MODEL, "--json", *arguments, code=1)


def test_no_such_model(tmp_path):
    assert "none.gguf" in error_line("inspect", tmp_path / "none.gguf", code=1)
    assert str(tmp_path) in error_line("inspect", tmp_path, code=1)  # a directory without a model


def test_prompt_longer_than_the_positions(tmp_path):
    prompt = tmp_path / "long.txt"
    prompt.write_text(" a" * 9000)
    line = error_line("generate", MODEL, "--json", "--prompt-file", prompt, code=1)
    assert "8192" in line and "9000" in line
    text = tmp_path / "long.jsonl"
    text.write_text(json.dumps({"text": " a" * 9000}))
    line = error_line("score", MODEL, "--input", text, code=1)
    assert "8192" in line and "9000" in line


def test_invalid_utf8(tmp_path):
    prompt = tmp_path / "p.txt"
    prompt.write_bytes(b"abc \xff def")
    assert "4" in error_line("generate", MODEL, "--json", "--prompt-file", prompt, code=1)
    assert "UTF-8" in error_line("evaluate", MODEL, "--data", prompt, code=1)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1, 2]",
        '{"text": 3}',
        '{"txt": "a"}',
        '{"tokens": [1, -1]}',
        '{"tokens": [49152]}',
        '{"tokens": [4294967297]}',
        '{"tokens": [18446744073709551615]}',
        '{"tokens": [1.5]}',
        '{"tokens": ["1"]}',
        '{"tokens": 7}',
    ],
)
def test_score_names_the_bad_line(line):
    assert "-:1" in error_line("score", MODEL, "--input", "-", stdin=line + "\n", code=1)


def test_score_counts_blank_lines_too():
    lines = '{"tokens": [1]}\n\n \t\n{"text": 5}\n'
    assert "-:4" in error_line("score", MODEL, "--input", "-", stdin=lines, code=1)


@pytest.mark.parametrize("line", ["x", "{}", "[49152]", "[-1]", "[4294967297]", '{"tokens": "a"}'])
def test_decode_names_the_bad_line(line):
    assert "stdin:1" in error_line("tokenize", MODEL, "--decode", stdin=line + "\n", code=1)


def test_evaluate_refuses_a_text_too_short(tmp_path):
    (tmp_path / "short.txt").write_text("a")
    assert "two tokens" in error_line("evaluate", MODEL, "--data", tmp_path / "short.txt", code=1)
    line = error_line("evaluate", MODEL, "--task", "recall", "--data", tmp_path / "short.txt", code=1)
    assert "384" in line


def test_full_disk_on_stdout():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "w") as full:
        import subprocess

        done = subprocess.run(
            [BINARY, "tokenize", MODEL], input="hello\n", stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr.startswith("error: [stdout]")


def test_training_verbs_without_their_program(tmp_path):
    lonely = tmp_path / "espalier"
    shutil.copy(BINARY, lonely)
    import subprocess

    done = subprocess.run([lonely, "linearize", MODEL], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "espalier-train" in done.stderr


# --- GGUF files -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def header():
    with open(MODEL, "rb") as file:
        return file.read(HEADER_BYTES)


def damaged(tmp_path, content, size=None):
    """A file that begins with `content` and is as long as the model."""
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    os.truncate(path, MODEL.stat().st_size if size is None else size)
    return path


def replaced(header, old, new):
    assert len(old) == len(new) and header.count(old) >= 1
    return header.replace(old, new, 1)


def with_number(header, offset, value):
    return header[:offset] + struct.pack("<Q", value) + header[offset + 8 :]


def test_an_undamaged_header_is_taken(tmp_path, header):
    run("inspect", damaged(tmp_path, header))  # what the others differ from


@pytest.mark.parametrize("size", [0, 3, 4, 20, 24, 1000, HEADER_BYTES, 60_000_000])
def test_truncated(tmp_path, header, size):
    error_line("inspect", damaged(tmp_path, header[:size], size), code=1)


@pytest.mark.parametrize("value", [2**64 - 1, 2**63, 2**40, 2**32])
@pytest.mark.parametrize("offset", [8, 16])
def test_hostile_counts(tmp_path, header, offset, value):
    error_line("inspect", damaged(tmp_path, with_number(header, offset, value)), code=1)


@pytest.mark.parametrize("value", [2**64 - 1, 2**62, 2**33])
@pytest.mark.parametrize("key", [b"general.architecture", b"tokenizer.ggml.tokens"])
def test_hostile_lengths(tmp_path, header, key, value):
    offset = header.index(key) + len(key) + 4  # a string's length, or an array's type and length
    offset += 4 if key.endswith(b"tokens") else 0
    error_line("inspect", damaged(tmp_path, with_number(header, offset, value)), code=1)


@pytest.mark.parametrize("value", [2**64 - 32, 2**63, 98_000_000_000])
def test_hostile_offsets_and_shapes(tmp_path, header, value):
    name = header.index(b"blk.0.ffn_up.weight")
    shape = name + len(b"blk.0.ffn_up.weight") + 4
    for offset in (shape, shape + 8, shape + 20):
        error_line("inspect", damaged(tmp_path, with_number(header, offset, value)), code=1)


def test_rows_that_make_no_heads(tmp_path, header):
    """Their rows would be put back into another order by a head's size."""
    for name in (b"blk.0.attn_q.weight", b"blk.0.attn_k.weight"):
        shape = header.index(name) + len(name) + 4
        assert name.decode() in error_line("inspect", damaged(tmp_path, with_number(header, shape + 8, 1)), code=1)


def test_overlapping_tensors(tmp_path, header):
    name = b"blk.0.ffn_up.weight"
    other = b"blk.1.ffn_up.weight"
    where = lambda tensor: header.index(tensor) + len(tensor) + 24  # noqa: E731
    same = struct.unpack_from("<Q", header, where(other))[0]
    error_line("inspect", damaged(tmp_path, with_number(header, where(name), same)), code=1)


def test_unknown_parts_are_named(tmp_path, header):
    unknown = replaced(header, b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00lhama")
    assert "lhama" in error_line("inspect", damaged(tmp_path, unknown), code=1)
    unknown = replaced(header, b"smollm\x00", b"smallm\x00") if b"smollm\x00" in header else None
    if unknown is None:
        unknown = header.replace(b"\x06\x00\x00\x00\x00\x00\x00\x00smollm", b"\x06\x00\x00\x00\x00\x00\x00\x00smallm", 1)
    assert "smallm" in error_line("tokenize", damaged(tmp_path, unknown), stdin="a\n", code=1)
    type_at = header.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight") + 4 + 16
    unknown = header[:type_at] + struct.pack("<I", 97) + header[type_at + 4 :]
    assert "97" in error_line("inspect", damaged(tmp_path, unknown), code=1)


def test_flipped_bits_never_crash(tmp_path, header):
    """Flips in the metadata give an error or a model, never a signal."""
    for seed in range(40):
        offset = (seed * 7919) % 3000 if seed % 2 else (seed * 104729) % HEADER_BYTES
        flipped = bytearray(header)
        flipped[offset] ^= 1 << (seed % 8)
        done = run("inspect", damaged(tmp_path, bytes(flipped)), check=False)
        assert done.returncode in (0, 1), (offset, done.returncode)
        assert done.returncode == 0 or done.stderr.count("\n") == 1


def test_nothing_is_left_in_the_folder(tmp_path):
    """A logits file that cannot be written leaves nothing."""
    target = tmp_path / "none" / "x.safetensors"
    done = run("score", MODEL, "--input", "-", "--logits", target, stdin='{"tokens": [1]}\n', check=False)
    assert done.returncode == 1 and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1


def test_texts_of_the_tests_are_utf8():
    for path in DATA.glob("*.txt"):
        path.read_text(encoding="utf-8")
