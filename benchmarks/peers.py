"""Espalier beside llama.cpp, PyTorch and CTranslate2: the same model, the same machine, the same run, one table.

For each peer and weight type, peer and espalier take turns round by round, each in a fresh process. The table has the
medians of both, the median of the ratios paired within a round (> 1 where espalier is faster) and their spread. Usage:

  benchmarks/peers.py MODEL.gguf [--rounds 7] [--threads 2] [--peers llama.cpp,torch,ctranslate2] [--json OUT.json]

Both sides of a pair read the same weights: with llama.cpp a file of its own quantizer (peer_llama_cpp.py); with the
others the directory that `espalier save` writes, which CTranslate2's converter rounds to int8 or leaves in float32. All
measure alike: a prefill of 512 up to the last row's logits, greedy decoding of 32 behind it, a step over 8 tokens
behind it with the logits of all. CTranslate2 cannot step over several tokens behind others, so that row is left out.

A peer whose packages are missing is left out with a note, one that fails with an error; the others are measured.
Refuses a llama.cpp that was built without AVX512_BF16, AVX512_VNNI, AVX2 or FMA where the CPU has them. On a CPU with AMX,
g++ 12 builds one whose Q8_0 and Q4_0 crash (CMAKE_ARGS=-DGGML_NATIVE=ON); without AMX it is built by
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=ON
-DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON".
Says so when other processes took part of the CPU: peers whose threads spin at barriers lose far more by that.
"""
import argparse
import importlib
import itertools
import json
import logging
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import peer_llama_cpp
from peer_llama_cpp import DECODE, ESPALIER, PREFILL

STEP = 8
REPEATS = 3  # within a process of PyTorch or CTranslate2, after one that warms up
BUSY = 0.05  # share of the CPU in other processes from which on the ratios are doubted
# Peer -> its weights and espalier's beside them.
KINDS = {
    "llama.cpp": peer_llama_cpp.OURS,
    "torch": {"bf16": "bf16", "f32": "f32"},
    "ctranslate2": {"int8": "int8", "float32": "f32"},
}
# Peer -> module and PyPI package of all it takes; CTranslate2's converter reads the directory with PyTorch.
PACKAGES = {
    "llama.cpp": {"llama_cpp": "llama-cpp-python"},
    "torch": {"torch": "torch", "transformers": "transformers"},
    "ctranslate2": {"ctranslate2": "ctranslate2", "torch": "torch", "transformers": "transformers"},
}
# Row of the table -> its figure in what a process reports, and whether more is better.
MEASURES = {
    "decode, tokens/s": (lambda found: found["decode"], True),
    f"prefill of {PREFILL}, tokens/s": (lambda found: found["prefill"], True),
    f"step of {STEP}, ms": (lambda found: found["verify_ms"].get(STEP), False),
}


def some_tokens(vocabulary):
    """The prompt that espalier's and llama.cpp's measurements use too."""
    return [(i * 37 + 11) % vocabulary for i in range(PREFILL)]


def report(prefill, decode, steps):
    figures = {"prefill": PREFILL / statistics.median(prefill), "decode": 1 / statistics.median(decode)}
    print(json.dumps({**figures, "verify_ms": {STEP: 1e3 * statistics.median(steps)} if steps else {}}))


def measure_torch(model, weights, threads):
    """Runs in its own process; prints the figures as JSON."""
    import torch
    from transformers import DynamicCache, LlamaForCausalLM

    torch.set_num_threads(threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[weights]
    llama = LlamaForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="sdpa").eval()
    tokens = torch.tensor([some_tokens(llama.config.vocab_size)])

    @torch.inference_mode()
    def step(rows, cache, logits_to_keep):
        """Seconds of a step, and the token it makes likeliest."""
        start = time.perf_counter()
        logits = llama(rows, past_key_values=cache, use_cache=True, logits_to_keep=logits_to_keep).logits
        token = logits[:, -1:].argmax(-1)
        return time.perf_counter() - start, token

    prefill, decode, steps = [], [], []
    for i in range(REPEATS + 1):
        cache = DynamicCache(config=llama.config)
        seconds, token = step(tokens, cache, 1)
        prefill.append(seconds)
        steps.append(step(tokens[:, :STEP], cache, STEP)[0])
        cache.crop(-STEP)
        for _ in range(DECODE):
            seconds, token = step(token, cache, 1)
            decode.append(seconds)
        if i == 0:
            prefill, decode, steps = [], [], []
    report(prefill, decode, steps)


def measure_ctranslate2(model, weights, threads):
    """Runs in its own process; prints the figures as JSON."""
    import ctranslate2

    generator = ctranslate2.Generator(
        str(model), device="cpu", compute_type=weights, inter_threads=1, intra_threads=threads
    )
    vocabulary = json.loads((model / "vocabulary.json").read_text(encoding="utf-8"))
    prompt = [vocabulary[token] for token in some_tokens(len(vocabulary))]
    prefill, decode = [], []
    for i in range(REPEATS + 1):
        times = [time.perf_counter()]

        def note_time(_, times=times):
            times.append(time.perf_counter())
            return False  # go on

        # The prompt goes in at once, not token by token; the first token ends the prefill.
        generator.generate_batch(
            [prompt], beam_size=1, sampling_topk=1, min_length=DECODE + 1, max_length=DECODE + 1,
            include_prompt_in_result=False, callback=note_time,
        )  # fmt: skip
        if i > 0:
            first, *others = (after - before for before, after in itertools.pairwise(times))
            prefill.append(first)
            decode += others
    report(prefill, decode, [])


def peer_builds(peers):
    """What the builds of the peers that are there are; a note for each of the others."""
    builds = {}
    for peer in peers:
        packages, modules, missing = PACKAGES[peer], {}, []
        for name, package in packages.items():
            try:
                modules[name] = importlib.import_module(name)
            except ImportError:
                missing.append(package)
        if missing:
            packages = " ".join(missing)
            print(f"note: [{peer}] left out, it needs {packages} from PyPI; try "
                  f"{sys.executable} -m pip install {packages}", file=sys.stderr)  # fmt: skip
            continue
        versions = ", ".join(f"{package} {modules[name].__version__}" for name, package in packages.items())
        if peer == "llama.cpp":
            builds[peer] = f"{versions}, {peer_llama_cpp.check_build(modules['llama_cpp'])}"
        elif peer == "torch":
            builds[peer] = f"{versions}, {modules['torch'].backends.cpu.get_cpu_capability()}"
        else:
            types = modules["ctranslate2"].get_supported_compute_types("cpu")
            builds[peer] = f"{versions}, {', '.join(sorted(types))}"
    return builds


def quietly(command):
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)


def make_files(peer, weights, source, directory, folder):
    """What espalier reads and what the peer reads."""
    if peer == "llama.cpp":
        file = folder / f"{weights}.gguf"
        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # it names every tensor
        peer_llama_cpp.make_file(peer_llama_cpp.import_llama(), source, file, weights)
        return file, file
    if not directory.exists():
        quietly([ESPALIER, "save", source, "--out", directory])
    if peer == "torch":
        return directory, directory
    command = [sys.executable, "-m", "ctranslate2.converters.transformers", "--model", directory,
               "--output_dir", folder / weights]  # fmt: skip
    quietly(command + ([] if weights == "float32" else ["--quantization", weights]))
    return directory, folder / weights


def run_peer(peer, model, weights, threads):
    if peer == "llama.cpp":
        return peer_llama_cpp.run_llama(model, weights, threads)
    command = [sys.executable, __file__, model, "--threads", threads, "--measure", peer, "--weights", weights]
    return peer_llama_cpp.run_measured(list(map(str, command)))


def seconds_of_others():
    """CPU seconds of all that is not this process or one that it has waited for, stolen ones included."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(int, stat.readline().split()[1:9])
    busy = user + nice + system + interrupts + soft_interrupts + stolen
    return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def take_turns(peer, weights, options, directory):
    """The figures of every round, [(espalier's, the peer's)], and the share of the CPU that others took meanwhile."""
    name, our_weights = f"{peer} {weights}", KINDS[peer][weights]
    with tempfile.TemporaryDirectory(dir=directory.parent) as folder:
        print(f"{name}: making its files", file=sys.stderr)
        ours, theirs = make_files(peer, weights, options.model, directory, pathlib.Path(folder))
        runs = {
            "espalier": lambda: peer_llama_cpp.bench_espalier(ours, our_weights, options.threads),
            "peer": lambda: run_peer(peer, theirs, weights, options.threads),
        }
        rounds, start, others = [], time.perf_counter(), seconds_of_others()
        for i in range(options.rounds):
            # Who goes first changes, so that a drift of the machine favours none.
            found = {who: runs[who]() for who in (runs if i % 2 == 0 else reversed(runs))}
            rounds.append((found["espalier"], found["peer"]))
            print(f"{name}: round {i + 1} of {options.rounds}", file=sys.stderr)
        share = (seconds_of_others() - others) / (time.perf_counter() - start) / os.cpu_count()
    if share > BUSY:
        note = f"note: [{name}] other processes took {100 * share:.0f} % of the CPU; do not trust its ratios"
        print(note, file=sys.stderr)
    return rounds, share


def table_rows(peer, weights, rounds, others):
    rows = []
    for measure, (figure, more_is_better) in MEASURES.items():
        pairs = [(figure(ours), figure(theirs)) for ours, theirs in rounds]
        if any(None in pair for pair in pairs):
            continue
        ratios = [ours / theirs if more_is_better else theirs / ours for ours, theirs in pairs]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append({
            "peer": peer, "weights": weights, "espalier_weights": KINDS[peer][weights], "measure": measure,
            "espalier": ours, "theirs": theirs,
            "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios), "rounds": pairs,
            "cpu_share_of_others": others,
        })  # fmt: skip
    return rows


def print_row(row):
    names = f"{row['peer']}\t{row['weights']} / {row['espalier_weights']}\t{row['measure']}"
    spread = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}"
    print(f"{names}\t{row['espalier']:.1f}\t{row['theirs']:.1f}\t{row['ratio']:.2f}\t{spread}", flush=True)


CRASHES = {-signal.SIGSEGV: "SIGSEGV", -signal.SIGILL: "SIGILL", -signal.SIGABRT: "SIGABRT"}


def failure(name, error):
    """One line about a process that ended without figures."""
    if not isinstance(error, subprocess.CalledProcessError):
        return f"error: [{name}] expected figures, got {error}"
    last = ((error.stderr or "").strip().splitlines() or [f"exit code {error.returncode}"])[-1]
    if last.startswith("error:"):
        return last
    program = pathlib.Path(error.cmd[0]).name
    if error.returncode in CRASHES and program != ESPALIER.name:
        return f"error: [{name}] expected figures, got {CRASHES[error.returncode]}; try another build of it (see --help)"
    return f"error: [{name}] expected figures, got from {program}: {last}"


def compare(options):
    builds = peer_builds(options.peers)
    if not builds:
        sys.exit(f"error: [peers] expected one of {', '.join(options.peers)}, got none; try what the notes say")
    for peer, build in builds.items():
        print(f"{peer}: {build}")
    print("peer\tweights (theirs / ours)\tmeasure\tours\ttheirs\tratio\tspread", flush=True)
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for peer in builds:
            for weights in KINDS[peer]:
                try:
                    rounds, others = take_turns(peer, weights, options, pathlib.Path(folder) / "model")
                except (subprocess.CalledProcessError, ValueError, IndexError) as error:
                    failed.append(f"{peer} {weights}")
                    print(failure(failed[-1], error), file=sys.stderr)
                    continue
                for row in table_rows(peer, weights, rounds, others):
                    rows.append(row)
                    print_row(row)
    return {"threads": options.threads, "rounds": options.rounds, "builds": builds, "rows": rows, "failed": failed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("--json", type=pathlib.Path, help="write the figures of every round to this file")
    parser.add_argument("--measure", choices=("torch", "ctranslate2"), help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure = {"torch": measure_torch, "ctranslate2": measure_ctranslate2}[options.measure]
        return measure(options.model, options.weights, options.threads)
    if unknown := [peer for peer in options.peers if peer not in KINDS]:
        parser.error(f"--peers: expected some of {','.join(KINDS)}, got {','.join(unknown)}")
    if options.rounds < 1:
        parser.error(f"--rounds: expected 1 or more, got {options.rounds}")
    if not options.model.is_file():
        sys.exit(f"error: [{options.model}] expected a GGUF file, got none; try make models")
    if not ESPALIER.is_file():
        sys.exit(f"error: [{ESPALIER}] expected the program, got none; try make build")
    result = compare(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if result["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
