"""`score` and `tokenize` against transformers on the same GGUF file, in f32."""
import json

import pytest
import torch
from conftest import DATA, MODEL, ROOT, run, run_json

TEXTS = {
    "english": (DATA / "english.txt").read_text(),
    "code": (ROOT / "scripts/check_arrows.py").read_text()[:3000],
    "german": (DATA / "german.txt").read_text(),
    "japanese": (DATA / "japanese.txt").read_text(),
    "emoji": (DATA / "emoji.txt").read_bytes().decode(),
}
# Two f32 computations in different orders of summation.
TOLERANCE = 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_log_probabilities(name, reference):
    model, tokenizer = reference
    [scored] = run_json("score", MODEL, "--weights", "f32", "--input", "-", stdin=json.dumps({"text": TEXTS[name]}))
    ids = tokenizer(TEXTS[name], return_tensors="pt").input_ids
    assert scored["tokens"] == ids[0].tolist()
    with torch.no_grad():
        expected = torch.log_softmax(model(ids).logits[0].double(), -1)
    assert scored["logprobs"][0] is None
    difference = (torch.tensor(scored["logprobs"][1:]) - expected[:-1].gather(1, ids[0, 1:, None])[:, 0]).abs()
    assert difference.max() <= TOLERANCE


def test_tokenize_and_back(reference_tokenizer):
    lines = [line for line in TEXTS["english"].splitlines() if line][:20]
    ids = run_json("tokenize", MODEL, stdin="\n".join(lines))
    assert [row["tokens"] for row in ids] == [reference_tokenizer(line).input_ids for line in lines]
    back = run_json("tokenize", MODEL, "--decode", stdin="\n".join(json.dumps(row) for row in ids))
    assert [row["text"] for row in back] == lines


def test_logits_file(tmp_path):
    from safetensors.numpy import load_file

    run("score", MODEL, "--input", "-", "--logits", tmp_path / "x.safetensors", stdin='{"tokens": [1, 2, 3]}\n{"text": "a"}')
    logits = load_file(tmp_path / "x.safetensors")
    assert logits["logits.0"].shape == (3, 49152) and logits["logits.1"].shape == (1, 49152)
