"""The whole main job in minutes: linearize SmolLM2 live, then compare what ships with its teacher.

Every figure printed here is measured by this run.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
ESPALIER = ROOT / "build/release/espalier"
MODEL = "models/smollm2-135m-instruct.gguf"
NOVEL = "tests/data/cli/novel.txt"
DRAFTS = ["--ngram-table", "adapters/smollm2-135m-ngram/table.ngram", "--draft-head", "adapters/smollm2-135m-head"]
MODELS = {
    "teacher (softmax)": ["--attention", "softmax"],
    "window, untrained": ["--attention", "window(group=64)"],
    "lolcats": ["--adapter", "adapters/smollm2-135m-lolcats"],
    "augmented": ["--adapter", "adapters/smollm2-135m-augmented"],
}
PROMPTS = [
    "Write a Python function that adds two numbers, then the same function for three numbers.",
    "List the days of the week, then list them again in reverse order.",
    "Why is the sky blue? Explain it, then summarize your explanation.",
]
COLUMNS = ["model", "perplexity", "2nd copy", "copied", "looked up", "top-1", "state MB", "tokens/s", "speculated",
           "tokens/step", "same text"]  # fmt: skip


def espalier(verb, *arguments):
    """Runs a verb with --json; progress goes to the terminal. Returns the JSON object."""
    command = [str(ESPALIER), verb, MODEL, "--json", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"demo: {' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout)


def linearize(threads):
    print("1. A live linearization: the paper's augmented attention, from the softmax model. Watch the loss.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = espalier("linearize", "--recipe", "configs/demo.toml", "--data", "examples/alice.txt",
                       "--held-out", NOVEL, "--out", pathlib.Path(folder) / "run", *threads)  # fmt: skip
    print(f"\nperplexity on a novel it did not read: {run['perplexity_before']:.0f} before, "
          f"{run['perplexity_after']:.0f} after {run['tokens']:,} tokens in {run['seconds']:.0f} s "
          f"(teacher {run['teacher_perplexity']:.1f})\n")  # fmt: skip


def quality(name, threads, probes):
    """The table's columns up to top-1."""
    print(f"   {name}: quality", file=sys.stderr, flush=True)
    text = [*MODELS[name], *threads, "--data", NOVEL]
    perplexity = espalier("evaluate", "--task", "perplexity", "--context", 1024, *text)["metric"]["perplexity"]
    recall = espalier("evaluate", "--task", "recall", "--trials", 4, "--probes", probes, *text)["metric"]
    agreement = espalier("evaluate", "--task", "agreement", "--tokens", 2048, *text)["metric"]["top1_agreement"]
    return [name, f"{perplexity:.2f}", f"{recall['second_copy_perplexity']:.2f}", f"{100 * recall['copy_share']:.0f} %",
            f"{100 * recall['lookup_share']:.0f} %", f"{100 * agreement:.1f} %"]  # fmt: skip


class Speed:
    """What one model's replies took, plain and speculated, and whether their texts are equal."""

    def __init__(self):
        self.seconds = {"plain": 0.0, "speculated": 0.0}
        self.tokens = self.steps = self.state = 0
        self.equal = True

    def add(self, replies):
        for mode, reply in replies.items():
            self.seconds[mode] += reply["stats"]["decode_ms"] / 1000
        self.equal = self.equal and replies["plain"]["tokens"] == replies["speculated"]["tokens"]
        self.tokens += len(replies["plain"]["tokens"])
        self.steps += replies["speculated"]["stats"]["steps"]
        self.state = replies["plain"]["stats"]["state_bytes"]

    def cells(self):
        return [f"{self.state / 1e6:.2f}", f"{self.tokens / self.seconds['plain']:.1f}",
                f"{self.tokens / self.seconds['speculated']:.1f}", f"{self.tokens / self.steps:.2f}",
                "yes" if self.equal else "NO"]  # fmt: skip


def speeds(threads, tokens):
    """A Speed for each model. All take turns at each prompt, so that a machine that slows down slows all of them."""
    result = {name: Speed() for name in MODELS}
    for number, prompt in enumerate(PROMPTS, 1):
        print(f"   speed: prompt {number} of {len(PROMPTS)}", file=sys.stderr, flush=True)
        replies = {name: {} for name in MODELS}
        for mode, drafts in (("plain", ["--speculate", "off"]), ("speculated", DRAFTS)):
            for name, model in MODELS.items():
                arguments = ["--chat", "--prompt", prompt, "--max-tokens", tokens, *drafts, *model, *threads]
                replies[name][mode] = espalier("generate", *arguments)
        for name in MODELS:
            result[name].add(replies[name])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="default: all processors")
    parser.add_argument("--max-tokens", type=int, default=128, help="of each reply")
    parser.add_argument("--probes", type=int, default=8, help="recall probes of each kind")
    parser.add_argument("--skip-training", action="store_true", help="the table only")
    arguments = parser.parse_args()
    start = time.monotonic()
    threads = ["--threads", arguments.threads] if arguments.threads else []
    if not arguments.skip_training:
        linearize(threads)
    print("2. What ships, beside its teacher.", flush=True)
    rows = [quality(name, threads, arguments.probes) for name in MODELS]
    measured = speeds(threads, arguments.max_tokens)
    rows = [COLUMNS] + [row + measured[row[0]].cells() for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    print()
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells))
    print(f"""
perplexity, top-1   on {NOVEL}, context 1024; top-1: share of positions with the teacher's likeliest token
2nd copy            perplexity of a passage's repetition after 256 other tokens
copied, looked up   greedy probes answered: a list to copy, codes to look up
state MB            after the last reply; softmax's grows with the text, the others' does not
speculated          tokens/s with tree speculation; same text: token for token that of plain decoding

That took {(time.monotonic() - start) / 60:.1f} minutes. What to try next:
  export PATH="$PWD/build/release:$PATH" MODEL={MODEL}
  espalier chat $MODEL --adapter adapters/smollm2-135m-lolcats        talk to it, with a constant state
  espalier inspect --attentions                                       which attentions there are
  espalier generate $MODEL --attention "window(group=128)" --prompt "Once"
  espalier linearize $MODEL --recipe configs/lolcats.toml --data TEXT --out runs/mine
README.md says what it is good for, docs/tour.md how it works.""")
    sys.exit(0 if all(row[-1] == "yes" for row in rows[1:]) else 1)


if __name__ == "__main__":
    main()
