"""every_attention.py MODEL --data TEXT --prompts FILE --out DIR [--only NAME ...]: linearizes MODEL with every attention
mechanism (configs/every_attention.toml, 20,480 tokens of attention transfer), then generates 64 tokens for each prompt
plainly and with tree speculation. Prints a line per mechanism: loss of the first and of the last steps, perplexity
before and after, and for how many prompts the two texts are equal. Runs that are complete are not repeated.
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
ESPALIER = ROOT / "build/release/espalier"


def run(*arguments):
    result = subprocess.run([str(ESPALIER), *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        sys.exit((result.stderr.strip() or "error: no message").splitlines()[-1])
    return json.loads(result.stdout)


def attentions():
    cards = run("inspect", "--attentions", "--json")["attentions"]
    return [spec for card in cards if card["name"] != "softmax" for spec in card["examples"]]


def linearized(options, attention, out):
    if (out / "result.json").exists():
        return json.loads((out / "result.json").read_text())
    result = run("linearize", options.model, "--recipe", ROOT / "configs/every_attention.toml", "--attention", attention,
                 "--data", options.data, "--out", out, "--json", *(["--resume"] if out.exists() else []))  # fmt: skip
    (out / "result.json").write_text(json.dumps(result))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(":", 1)[1])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--prompts", required=True, help="a file with a prompt on each line")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--only", nargs="*", metavar="NAME", default=None)
    options = parser.parse_args()
    prompts = [line for line in open(options.prompts, encoding="utf-8").read().splitlines() if line][:20]
    print("attention\tloss\tperplexity\tequal texts\ttokens per step", flush=True)
    for attention in options.only or attentions():
        out = options.out / "".join(c if c.isalnum() else "_" for c in attention)
        result = linearized(options, attention, out)
        losses = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses = [entry["loss"] for entry in losses if entry.get("stage") == "transfer"]
        equal = tokens = steps = 0
        for prompt in prompts:
            common = ["generate", options.model, "--adapter", out, "--prompt", prompt, "--max-tokens", 64,
                      "--ignore-eos", "--json"]  # fmt: skip
            plain = run(*common, "--speculate", "off")
            speculated = run(*common, "--speculate", "ngram")
            equal += plain["tokens"] == speculated["tokens"]
            tokens += len(speculated["tokens"])
            steps += speculated["stats"]["steps"]
        first, last = losses[:5], losses[-5:]
        print(f"{attention}\t{sum(first) / max(1, len(first)):.3f} -> {sum(last) / max(1, len(last)):.3f}\t"
              f"{result['perplexity_before']:.1f} -> {result['perplexity_after']:.1f}\t{equal} of {len(prompts)}\t"
              f"{tokens / steps:.2f}", flush=True)  # fmt: skip


main()
