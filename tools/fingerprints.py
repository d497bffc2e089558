"""fingerprints.py BUILD OUT.tsv: what the programs of the build folder BUILD answer in fixed cases (mechanisms, weights,
instruction sets, verbs), a line each: case, hash or value. Texts, ids, log-probabilities, logits, states and files are
kept; times and speeds are not. A change that should change no result leaves the file as it was:

  tools/fingerprints.py build/before before.tsv && tools/fingerprints.py build/release after.tsv && diff before.tsv after.tsv
"""
import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODEL = ROOT / "models/smollm2-135m-instruct.gguf"
ENCODER = ROOT / "models/all-minilm-l6-v2"
TINY = ROOT / "tests/data/models/stories260K"
NANO = ROOT / "tests/data/models/nano-sort"
TEXTS = ROOT / "tests/data/cli"
PROMPT = "The three most important things about the sea are"
ATTENTIONS = ("softmax flash_local flash_global flash conv augmented window lolcats linear relu angular "
              "cosformer(length=8192) performer rfa hedgehog transnormer retention gla gated_delta linformer yoso hybrid "
              "augmented(global=performer) augmented(global=relu) augmented(global=transnormer) "
              "window(group=16,sinks=4) lolcats(group=16,linear=none) hybrid(group=16)").split()  # fmt: skip
WEIGHTS = ["f32", "bf16", "int8", "int4", "int4-sym"]
TIMES = {"prefill_ms", "decode_ms", "tokens_per_second", "seconds"}
# How drafts are sized depends on measured times; what they lead to does not.
SIZES = {"steps", "steps_with_tree", "drafted", "accepted", "tokens_per_step"}


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def without(value, keys):
    if isinstance(value, dict):
        return {key: without(part, keys) for key, part in value.items() if key not in keys}
    return [without(part, keys) for part in value] if isinstance(value, list) else value


class Cases:
    def __init__(self, build, out, folder):
        self.espalier, self.out, self.folder = build / "espalier", out, folder
        self.environment = dict(os.environ, XDG_CACHE_HOME=str(folder / "cache"))

    def write(self, name, value):
        print(name, value, sep="\t", file=self.out, flush=True)

    def run(self, *arguments, text="", code=0):
        result = subprocess.run([str(self.espalier), *map(str, arguments)], input=text.encode(), capture_output=True,
                                env=self.environment, cwd=self.folder)  # fmt: skip
        if result.returncode != code:
            sys.exit(f"error: [{' '.join(map(str, arguments))}] expected code {code}, got {result.returncode}: "
                     f"{result.stderr.decode()[-400:]}")  # fmt: skip
        return result.stdout

    def case(self, *arguments, text="", drop=frozenset()):
        """A line for what the command prints: lines of JSON without times, or as it stands."""
        output = self.run(*arguments, text=text)
        try:
            lines = [json.dumps(without(json.loads(line), TIMES | drop)) for line in output.decode().splitlines()]
            output = "\n".join(lines).encode()
        except ValueError:
            pass
        words = [str(a).replace(f"{ROOT}/", "").replace(f"{self.folder}/", "") for a in arguments]
        self.write(" ".join(words).replace("\n", " "), digest(output))

    def files(self, folder, *names):
        for name in names:
            self.write(f"file {folder}/{name}", digest((self.folder / folder / name).read_bytes()))


def generate(cases):
    common = ["--prompt", PROMPT, "--ignore-eos", "--json"]
    for attention in ATTENTIONS:
        cases.case("generate", MODEL, "--attention", attention, *common, "--max-tokens", 24, "--speculate", "off",
                   "--logprobs", 2)  # fmt: skip
        cases.case("generate", MODEL, "--attention", attention, *common, "--max-tokens", 24, "--tree-nodes", 24,
                   "--logprobs", 0, drop=SIZES)  # fmt: skip
    for weights in WEIGHTS + ["own"]:
        for isa in ["scalar", "avx2", "avx512", "avx512-bf16", "amx", ""]:
            arguments = ["generate", MODEL, *common, "--weights", weights, "--max-tokens", 12, "--logprobs", 1]
            try:
                cases.case(*arguments, *(["--isa", isa] if isa else []), drop=SIZES)
            except SystemExit as error:
                if not isa or "got 1" not in str(error):
                    raise
    sampling = ["--temperature", 0.8, "--top-p", 0.9, "--top-k", 50, "--min-p", 0.02, "--repeat-penalty", 1.1, "--seed", 7]
    cases.case("generate", MODEL, *common, *sampling, "--max-tokens", 60, drop=SIZES)
    cases.case("generate", MODEL, *common, "--max-tokens", 60, "--stop", "sea", "--stop", "the", drop=SIZES)
    cases.case("generate", MODEL, "--chat", "--prompt", PROMPT, "--max-tokens", 60)
    cases.case("generate", MODEL, *common, "--beams", 4, "--max-tokens", 20, "--length-penalty", 0.7)
    cases.case("generate", TINY, "--prompt", "Once", "--beams", 3, "--max-tokens", 20, "--json")
    cases.case("generate", MODEL, *common, "--adapter", ROOT / "adapters/smollm2-135m-lolcats", "--max-tokens", 60,
               drop=SIZES)  # fmt: skip
    cases.case("generate", MODEL, *common, "--adapter", ROOT / "adapters/smollm2-135m-augmented", "--max-tokens", 60,
               "--draft-head", ROOT / "adapters/smollm2-135m-head", "--ngram-table",
               ROOT / "adapters/smollm2-135m-ngram/table.ngram", drop=SIZES)  # fmt: skip
    cases.case("chat", MODEL, "--max-tokens", 30, text="Hello\nAnd then?\n/reset\nWhy?\n")
    for attention in ["softmax", "window(group=16,sinks=4)", "yoso", "linformer", "gated_delta(conv=4)"]:
        cases.case("generate", TINY, "--attention", attention, "--prompt", "Once upon a time", "--max-tokens", 80,
                   "--weights", "f32", "--state-out", cases.folder / "one.state", "--json", drop=SIZES)  # fmt: skip
        cases.files(".", "one.state")
        cases.case("generate", TINY, "--attention", attention, "--prompt", " and", "--max-tokens", 40, "--state-in",
                   cases.folder / "one.state", "--weights", "f32", "--json", drop=SIZES)  # fmt: skip


def texts(cases):
    lines = "\n".join(json.dumps({"text": text}) for text in ["Once upon a time", "The sea is deep.", "a b c"]) + "\n"
    (cases.folder / "lines.jsonl").write_text(lines)
    for weights in WEIGHTS:
        cases.case("score", MODEL, "--weights", weights, "--input", cases.folder / "lines.jsonl", "--logits",
                   cases.folder / "logits.safetensors")  # fmt: skip
        cases.files(".", "logits.safetensors")
        cases.case("encode", ENCODER, "--weights", weights, "--input", cases.folder / "lines.jsonl", "--pool", "mean",
                   "--normalize")  # fmt: skip
    cases.case("encode", ENCODER, "--input", cases.folder / "lines.jsonl", "--attention", "augmented(group=8)")
    for name in ["english", "german", "japanese", "emoji"]:
        text = (TEXTS / f"{name}.txt").read_text()
        for model in [MODEL, TINY, ENCODER]:
            cases.case("tokenize", model, text=text)
    for model in [MODEL, TINY, NANO, ENCODER]:
        cases.case("inspect", model, "--json")
        cases.case("inspect", model)
    cases.case("inspect", MODEL, "--json", "--attention", "augmented(global=performer,group=32)")


def measures(cases):
    data = ["--data", TEXTS / "novel.txt", "--json"]
    for attention in ["softmax", "lolcats", "augmented"]:
        cases.case("evaluate", MODEL, "--task", "perplexity", "--attention", attention, "--context", 128, "--tokens", 600,
                   *data)  # fmt: skip
    cases.case("evaluate", TINY, "--task", "recall", *data, "--tokens", 2000)
    cases.case("evaluate", TINY, "--task", "agreement", "--attention", "window(group=16)", *data, "--tokens", 2000)


def made_files(cases):
    cases.case("save", TINY, "--out", cases.folder / "saved")
    names = sorted(path.name for path in (cases.folder / "saved").iterdir())
    cases.files("saved", *names)
    (cases.folder / "prompts.txt").write_text("Once upon a time\nThe dog\nLily was\n")
    cases.run("ngram", TINY, "--prompts", cases.folder / "prompts.txt", "--tokens", 400, "--plain", "--out",
              cases.folder / "table.ngram")  # fmt: skip
    cases.files(".", "table.ngram")
    if not (cases.espalier.parent / "espalier-train").exists():
        return
    for attention in ["lolcats(group=16)", "augmented(group=16)", "hedgehog", "gated_delta"]:
        out = "run_" + "".join(c for c in attention if c.isalnum())
        cases.case("linearize", TINY, "--attention", attention, "--data", TEXTS / "novel.txt", "--transfer-tokens", 1024,
                   "--distill-tokens", 1024, "--context", 64, "--batch-tokens", 256, "--threads", 1, "--json", "--out",
                   cases.folder / out)  # fmt: skip
        cases.files(out, "adapter.safetensors")
    cases.case("draft", TINY, "--prompts", cases.folder / "prompts.txt", "--plain", "--tokens", 400, "--vocabulary", 200,
               "--epochs", 1, "--threads", 1, "--json", "--out", cases.folder / "head")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(":", 1)[1])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    build = options.build.resolve()
    with tempfile.TemporaryDirectory() as folder, open(options.out, "w", encoding="utf-8") as out:
        cases = Cases(build, out, pathlib.Path(folder))
        hashes = subprocess.run([build / "tests/espalier_fingerprint"], capture_output=True, text=True, check=True)
        out.write("".join(f"tiny {line.replace(' ', chr(9), 0)}\n" for line in hashes.stdout.splitlines()))
        for group in [generate, texts, measures, made_files]:
            group(cases)


if __name__ == "__main__":
    main()
