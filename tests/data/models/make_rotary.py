"""Writes rotary.json: what transformers makes of rotary settings, and rotated angles at far positions.

    .venv/bin/python tests/data/models/make_rotary.py

`inv_freq` is transformers' own, in f32. `angles` are [position, pair, cos, sin] in f64, from the formulas in f64 that
are first compared with transformers' (its f32 frequencies are off by a thousandth of a turn at position 100,000).
"""
import json
import math
import pathlib

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

POSITIONS = (0, 1, 2, 3, 63, 64, 1023, 4096, 8191, 8192, 32767, 65536, 99999, 100000)


def in_f64(dim, rope):
    frequencies = [rope["rope_theta"] ** (-2 * i / dim) for i in range(dim // 2)]
    if rope["rope_type"] == "linear":
        frequencies = [f / rope["factor"] for f in frequencies]
    if rope["rope_type"] == "llama3":
        low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
        high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
        for i, f in enumerate(frequencies):
            wave = 2 * math.pi / f
            if wave > low:
                frequencies[i] = f / rope["factor"]
            elif wave >= high:
                smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
                    rope["high_freq_factor"] - rope["low_freq_factor"]
                )
                frequencies[i] = (1 - smooth) * f / rope["factor"] + smooth * f
    return frequencies


def llama3(factor, low, high, original):
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original}  # fmt: skip


cases = []
for dim, theta, rope in (
    (64, 10000.0, {"rope_type": "default"}),
    (128, 500000.0, {"rope_type": "default"}),
    (6, 100.0, {"rope_type": "default"}),
    (64, 10000.0, {"rope_type": "linear", "factor": 4.0}),
    (16, 1000000.0, {"rope_type": "linear", "factor": 1.5}),
    (128, 500000.0, llama3(8.0, 1.0, 4.0, 8192)),
    (64, 500000.0, llama3(32.0, 1.0, 4.0, 8192)),
    (16, 10000.0, llama3(3.0, 0.5, 9.0, 100)),
    (2, 10000.0, llama3(2.0, 1.0, 4.0, 16)),
):
    rope = {**rope, "rope_theta": theta}
    config = LlamaConfig(hidden_size=dim, num_attention_heads=1, head_dim=dim, max_position_embeddings=131072,
                         rope_parameters=dict(rope))  # fmt: skip
    embedding = LlamaRotaryEmbedding(config)
    if rope["rope_type"] in ROPE_INIT_FUNCTIONS:
        theirs, scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
        assert scale == 1.0 and torch.equal(theirs, embedding.inv_freq)
    own = in_f64(dim, rope)
    torch.testing.assert_close(torch.tensor(own), embedding.inv_freq, rtol=1e-6, atol=0)
    half = len(own)
    pairs = sorted({0, 1 % half, half // 3, half // 2, half * 2 // 3, half - 1})
    cases.append({
        "dim": dim,
        "rope": rope,
        "inv_freq": [float(f"{f:.9g}") for f in embedding.inv_freq.tolist()],
        "angles": [
            [p, i, round(math.cos(p * own[i]), 9), round(math.sin(p * own[i]), 9)] for p in POSITIONS for i in pairs
        ],
    })  # fmt: skip
text = ",\n".join(json.dumps(case) for case in cases)
(pathlib.Path(__file__).parent / "rotary.json").write_text(f'{{"cases": [\n{text}\n]}}\n')
