"""all-MiniLM-L6-v2 (real weights, WordPiece): tokens and sentence embeddings against tokenizers and transformers."""
import json
import re
import signal
import subprocess
import time

import pytest
import torch
from conftest import BINARY, DATA, ROOT, run, run_json
from safetensors.torch import load_file
from scripts_of_the_world import texts
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

ENCODER = ROOT / "models/all-minilm-l6-v2"
# Characters that Unicode took in after version 11: the tokenizers library's tables do not know them.
NEW = frozenset({0x61D, 0x9FD, 0x9FE, 0xEBA, 0xECE})


def reference_tokenizer(**normalizer):
    tokenizer = json.loads((ENCODER / "tokenizer.json").read_text())
    tokenizer["normalizer"].update(normalizer)
    tokenizer["padding"] = tokenizer["truncation"] = None
    # As `tokenize` does without --special: names of special tokens in a text are text.
    return tokenizer


@pytest.mark.parametrize(
    "normalizer", [{}, {"lowercase": False}, {"strip_accents": False}, {"clean_text": False, "handle_chinese_chars": False}]
)
def test_word_pieces_are_those_of_tokenizers(normalizer, tmp_path):
    for file in ENCODER.iterdir():
        if file.is_file() and file.name != "tokenizer.json":
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").write_text(json.dumps(reference_tokenizer(**normalizer)))
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    lines = [*texts(without=NEW), "[CLS] x [SEP]"]
    got = [json.loads(line)["tokens"] for line in
           run("tokenize", tmp_path, "--special", stdin="\n".join(lines) + "\n").stdout.split("\n")[:-1]]  # fmt: skip
    expected = [encoding.ids for encoding in reference.encode_batch(lines)]
    assert len(got) == len(expected)
    for line, own, theirs in zip(lines, got, expected, strict=True):
        assert own == theirs, (line, [hex(ord(c)) for c in line])
    ids = "\n".join(json.dumps(tokens) for tokens in expected)
    back = [line["text"] for line in run_json("tokenize", tmp_path, "--decode", stdin=ids)]
    assert back == [reference.decode(tokens) for tokens in expected]


@pytest.mark.slow
def test_an_interrupted_run_keeps_what_is_done(tmp_path):
    (tmp_path / "texts").write_text('{"text": "Nothing is lost."}\n' * 40000)
    out = tmp_path / "e.safetensors"
    process = subprocess.Popen(
        [BINARY, "encode", ENCODER, "--pool", "mean", "--input", tmp_path / "texts", "--output", out],
        stderr=subprocess.PIPE, text=True)  # fmt: skip
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.count("\n") == 1 and "interrupted" in stderr
    kept = load_file(out)
    assert 0 < len(kept) < 40000 and len(kept) % 32 == 0


@pytest.mark.slow
def test_a_linearized_encoder_is_near_its_teacher(tmp_path):
    [done] = run_json(
        "linearize", ENCODER, "--attention", "augmented(group=32)", "--context", 64, "--batch-tokens", 512, "--json",
        "--transfer-tokens", 5120, "--distill-tokens", 10240, "--data", DATA / "novel.txt", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done["teacher_hidden_error"] == 0 < done["hidden_error_after"] < 0.8 * done["hidden_error_before"]
    paragraphs = [p for p in (DATA / "novel.txt").read_text(encoding="utf-8").split("\n\n") if 400 <= len(p) <= 800]
    lines = "\n".join(json.dumps({"text": p}) for p in paragraphs[-20:])  # longer than a group
    encode = ("encode", ENCODER, "--weights", "f32", "--pool", "mean", "--normalize", "--input", "-")
    plain = torch.tensor([line["embedding"] for line in run_json(*encode, stdin=lines)])
    own = torch.tensor([line["embedding"] for line in run_json(*encode, "--adapter", tmp_path / "run", stdin=lines)])
    untrained = run_json(*encode, "--attention", "augmented(group=32)", stdin=lines)
    before = torch.tensor([line["embedding"] for line in untrained])
    assert (plain * own).sum(1).mean() > (plain * before).sum(1).mean() + 0.05


@pytest.mark.slow
def test_sentence_embeddings_are_those_of_transformers():
    text = re.sub(r"\s+", " ", (DATA / "novel.txt").read_text(encoding="utf-8"))
    sentences = [s for s in re.split(r"(?<=[.!?]) ", text) if 20 <= len(s) <= 300][:100]
    tokenizer, model = AutoTokenizer.from_pretrained(ENCODER), AutoModel.from_pretrained(ENCODER).eval()
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    lines = "\n".join(json.dumps({"text": s}) for s in sentences)
    encode = ("encode", ENCODER, "--pool", "mean", "--normalize", "--input", "-")
    for weights, least in (("f32", 0.99999), ("bf16", 0.9999)):
        done = [run_json(*encode, "--weights", weights, "--batch", size, stdin=lines) for size in (1, 32)]
        assert done[0] == done[1]  # batch mates change nothing
        assert [line["tokens"] for line in done[0]] == [
            ids[: sum(own)].tolist() for ids, own in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        assert (torch.tensor([line["embedding"] for line in done[0]]) * expected).sum(1).min() >= least
    assert "wordpiece" in run("inspect", ENCODER).stdout
    [masked] = run_json("encode", ENCODER, "--input", "-", stdin='{"text": "[MASK]", "special": true}')
    assert masked["tokens"] == [101, 103, 102]
