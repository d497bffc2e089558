"""Sentence embeddings beside transformers (PyTorch): the same encoder in f32, the same sentences, the same run.

The two take turns, round by round; the time is that of the model's steps, without tokenizing. Medians of paired ratios
are reported, and the smallest cosine between the two's embeddings. Usage:

  benchmarks/peer_transformers.py MODEL_DIRECTORY TEXT [--sentences 100] [--rounds 7] [--threads 2]
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import torch
from transformers import AutoModel, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[1]
ESPALIER = pathlib.Path(os.environ.get("ESPALIER", ROOT / "build/release/espalier"))


def sentences_of(path, count):
    text = re.sub(r"\s+", " ", open(path, encoding="utf-8").read())
    found = [s.strip() for s in re.split(r"(?<=[.!?]) ", text) if 40 <= len(s) <= 250]
    return (found * (count // len(found) + 1))[:count] if found else sys.exit(f"error: [{path}] no sentences")


def ours(options, sentences, batch):
    lines = "\n".join(json.dumps({"text": s}) for s in sentences)
    done = subprocess.run(
        [ESPALIER, "encode", options.model, "--weights", "f32", "--pool", "mean", "--normalize", "--input", "-", "-v",
         "--threads", str(options.threads), "--batch", str(batch)],
        input=lines, capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    seconds = json.loads(re.search(r"steps: (\{.*\})", done.stderr)[1])["seconds"]
    return seconds, torch.tensor([json.loads(line)["embedding"] for line in done.stdout.splitlines()])


@torch.inference_mode()
def theirs(model, batches):
    start, found = time.perf_counter(), []
    for batch in batches:
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        found.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1))
    return time.perf_counter() - start, torch.cat(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("Usage")[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer, model = AutoTokenizer.from_pretrained(options.model), AutoModel.from_pretrained(options.model).eval()
    sentences = sentences_of(options.text, options.sentences)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} threads, f32")
    print("batch\tespalier/s\ttransformers/s\tratio\tspread\tleast cosine")
    for size in (1, 32):
        groups = [sentences[i : i + size] for i in range(0, len(sentences), size)]
        batches = [tokenizer(group, padding=True, truncation=True, max_length=512, return_tensors="pt") for group in groups]
        theirs(model, batches[:2])
        pairs, cosine = [], 1.0
        for _ in range(options.rounds):
            (mine, a), (other, b) = ours(options, sentences, size), theirs(model, batches)
            pairs.append((mine, other))
            cosine = min(cosine, (a * b).sum(1).min().item())
        ratios = sorted(other / mine for mine, other in pairs)
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{size}\t{len(sentences) / mine:.1f}\t{len(sentences) / other:.1f}\t{statistics.median(ratios):.2f}\t"
              f"{ratios[0]:.2f}-{ratios[-1]:.2f}\t{cosine:.7f}", flush=True)  # fmt: skip


main()
