"""Writes sampler.safetensors: what transformers' generation makes of logits, and numbers of SplitMix64's mix.

    .venv/bin/python tests/data/decoding/make_sampler.py

The processors and their order are those of generate() itself. Logits have no ties where top-k cuts: transformers keeps
all that tie with the k-th, Espalier exactly k.
"""
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

VOCAB, CASES, HISTORY = 41, 96, 24
MASK = 2**64 - 1

model = LlamaForCausalLM(
    LlamaConfig(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
)
random = np.random.default_rng(1)
logits, options, histories, lengths, probabilities = [], [], [], [], []
for case in range(CASES):
    row = (random.standard_normal(VOCAB) * random.choice([1.0, 3.0])).astype(np.float32)
    # The tokens of the history come again and again; the last of them are penalised.
    history = random.integers(0, random.choice([5, 15, VOCAB]), HISTORY)
    window = int(random.choice([-1, 1, 2, 7, HISTORY - 1, HISTORY, HISTORY + 1]))
    temperature = float(random.choice([0.3, 0.7, 1.0, 1.6]))
    top_k = int(random.choice([0, 0, 1, 2, 5, VOCAB - 1, VOCAB, VOCAB + 9]))
    top_p = float(random.choice([1.0, 1.0, 0.05, 0.4, 0.8, 0.95]))
    min_p = float(random.choice([0.0, 0.0, 0.02, 0.2, 1.0]))
    penalty = float(random.choice([1.0, 1.3, 2.0, 0.7]))
    config = GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_k=min(top_k, VOCAB),
        top_p=top_p,
        min_p=min_p if min_p > 0 else None,
        repetition_penalty=penalty,
    )
    model.generation_config = config
    model._prepare_special_tokens(config, False)
    seen = history if window < 0 else history[-window:]
    ids = torch.tensor(seen[None].astype(np.int64))
    processors = model._get_logits_processor(config, ids.shape[1], ids, None, [], device="cpu")
    scores = processors(ids, torch.tensor(row[None]))
    logits.append(row)
    histories.append(history)
    options.append([temperature, top_k, top_p, min_p, penalty, window])
    probabilities.append(torch.softmax(scores.double(), -1)[0].numpy())


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's increment
mixes = []
for _ in range(64):
    seed, stream, counter = (int(random.integers(0, 2 ** int(random.choice([3, 20, 40])))) for _ in range(3))
    z = mix(seed + GOLDEN & MASK)
    z = mix(z ^ (stream + GOLDEN & MASK))
    words = [seed, stream, counter, mix(z + (counter + 1) * GOLDEN & MASK)]
    mixes.append([[word >> shift & 0xFFFF for shift in (0, 16, 32, 48)] for word in words])

save_file(
    {
        "logits": np.stack(logits),
        "histories": np.stack(histories).astype(np.int32),
        "options": np.array(options, dtype=np.float32),
        "probabilities": np.stack(probabilities).astype(np.float32),
        "mixes": np.array(mixes, dtype=np.int32),  # seed, stream, counter, bits: four parts of 16 bits each
    },
    pathlib.Path(__file__).parent / "sampler.safetensors",
)
