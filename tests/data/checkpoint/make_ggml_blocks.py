"""Writes ggml_blocks.safetensors: blocks of every tensor type, and the values that the gguf package gives them.

    .venv/bin/python tests/data/checkpoint/make_ggml_blocks.py

Quantized types get random bytes with finite scales, so every bit of a block takes part.
"""
import pathlib

import gguf
import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import save_file

BLOCKS = 5
# Where a block keeps its f16 scales, in bytes.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # fmt: skip

random = np.random.default_rng(1)
tensors = {}
for name, places in SCALES.items():
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for place in places:
        scales = (random.standard_normal(BLOCKS) * 0.1).astype(np.float16)
        scales[-1] = np.float16(3e-7)  # a denormal one
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
    tensors[f"{name}.bytes"] = blocks.reshape(-1)
    tensors[f"{name}.values"] = dequantize(blocks, kind).astype(np.float32).reshape(-1)
    assert tensors[f"{name}.values"].size == BLOCKS * block and np.isfinite(tensors[f"{name}.values"]).all()
halves = np.concatenate([np.array([0, -0.0, 1, -2.5, 65504, 6e-8, 6.1e-5, np.inf, -np.inf]), random.standard_normal(55)])
tensors["F16.values"] = halves.astype(np.float16).astype(np.float32)
tensors["F16.bytes"] = halves.astype(np.float16).view(np.uint8)
wide = random.standard_normal(64).astype(np.float32)
tensors["BF16.bytes"] = (wide.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
tensors["BF16.values"] = dequantize(tensors["BF16.bytes"].reshape(1, -1), gguf.GGMLQuantizationType.BF16).reshape(-1)
tensors["F32.bytes"], tensors["F32.values"] = wide.view(np.uint8), wide
save_file(tensors, pathlib.Path(__file__).parent / "ggml_blocks.safetensors")
