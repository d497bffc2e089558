"""Espalier beside llama.cpp: the same weights, the same machine, the same run.

llama-cpp-python (PyPI) brings llama.cpp. The file that both read, BF16, Q8_0 or Q4_0, is made from the GGUF by
llama.cpp's own quantizer. Espalier runs it in bf16, with the file's own 8-bit blocks, or with its 4-bit ones
(int4-sym; a vocabulary table of 6 bits becomes one of 8). The two take turns, each in a fresh process, and medians of paired
ratios are reported. Usage:

  benchmarks/peer_llama_cpp.py MODEL.gguf [--weights bf16|q8_0|q4_0] [--rounds 5] [--threads 2] [--json OUT.json]

Refuses to compare when this CPU has AVX512_BF16 or AVX512_VNNI and the llama.cpp at hand was built without.
"""
import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
ESPALIER = pathlib.Path(os.environ.get("ESPALIER", ROOT / "build/release/espalier"))
PREFILL = 512
DECODE = 32
STEPS = (1, 2, 4, 8, 16, 32, 64)
# What a build must have if the CPU has it: /proc/cpuinfo flag -> name in llama_print_system_info().
NEEDED = {"avx512_bf16": "AVX512_BF16", "avx512_vnni": "AVX512_VNNI", "avx2": "AVX2", "fma": "FMA"}


def import_llama():
    try:
        import llama_cpp
    except ImportError:
        sys.exit("error: [llama.cpp] expected the PyPI package llama-cpp-python, got none; try make bench")
    return llama_cpp


def cpu_flags():
    for line in open("/proc/cpuinfo"):
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def check_build(llama_cpp):
    info = llama_cpp.llama_print_system_info().decode()
    flags = cpu_flags()
    missing = [name for flag, name in NEEDED.items() if flag in flags and f"{name} = 1" not in info]
    if missing:
        sys.exit(
            f"error: [llama.cpp] expected a build with {', '.join(missing)}, which this CPU has, got one without; "
            "try CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-cache-dir --force-reinstall llama-cpp-python"
        )
    return info.strip()


def make_file(llama_cpp, source, target, weights):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{weights.upper()}")
    parameters.allow_requantize = True
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    if code != 0:
        sys.exit(f"error: [llama.cpp] expected {target} to be written, got code {code}")


def measure_llama(model, threads):
    """Runs in its own process; prints the figures as JSON."""
    llama_cpp = import_llama()
    llm = llama_cpp.Llama(
        str(model), n_ctx=2048, n_batch=PREFILL, n_ubatch=PREFILL, n_threads=threads, n_threads_batch=threads,
        logits_all=False, verbose=False,
    )
    context, memory = llm._ctx.ctx, llama_cpp.llama_get_memory(llm._ctx.ctx)
    vocabulary = llm.n_vocab()

    def decode(tokens, begin, all_logits):
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, begin + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = all_logits or i + 1 == len(tokens)
        start = time.perf_counter()
        if llama_cpp.llama_decode(context, batch) != 0:
            sys.exit("error: [llama.cpp] expected a step, got a failure")
        llama_cpp.llama_synchronize(context)
        elapsed = time.perf_counter() - start
        llama_cpp.llama_batch_free(batch)
        return elapsed

    tokens = [(i * 37 + 11) % vocabulary for i in range(PREFILL)]
    decode(tokens[:8], 0, False)
    llama_cpp.llama_memory_clear(memory, True)
    prefill = decode(tokens, 0, False)
    verify = {}
    for nodes in STEPS:
        decode(tokens[:nodes], PREFILL, True)
        llama_cpp.llama_memory_seq_rm(memory, 0, PREFILL, -1)
        times = []
        for _ in range(5):
            times.append(decode(tokens[:nodes], PREFILL, True))
            llama_cpp.llama_memory_seq_rm(memory, 0, PREFILL, -1)
        verify[nodes] = 1e3 * statistics.median(times)
    times = [decode([tokens[i]], PREFILL + i, True) for i in range(DECODE)]
    print(json.dumps({"prefill": PREFILL / prefill, "decode": 1 / statistics.median(times), "verify_ms": verify}))


def run_measured(command):
    """The figures that a peer's process prints as its last line."""
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return {**found, "verify_ms": {int(nodes): ms for nodes, ms in found["verify_ms"].items()}}


def run_llama(file, weights, threads):
    return run_measured([sys.executable, __file__, str(file), "--threads", str(threads), "--measure-llama"])


# How espalier runs each of the files.
OURS = {"bf16": "bf16", "q8_0": "own", "q4_0": "int4-sym"}


def run_espalier(file, weights, threads):
    return bench_espalier(file, OURS[weights], threads)


def bench_espalier(model, weights, threads):
    command = [ESPALIER, "bench", model, "--weights", weights, "--threads", threads, "--repeats", 5, "--json",
               "--prefill-tokens", PREFILL, "--decode-tokens", DECODE]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {
        "prefill": found["prefill_tokens_per_second"],
        "decode": found["decode_tokens_per_second"],
        "verify_ms": {int(nodes): ms for nodes, ms in found["verify_ms"].items()},
        "bandwidth": found["read_bandwidth_bytes_per_second"],
        "bandwidth_share": found["decode_bandwidth_share"],
    }


def summary(rounds):
    """Medians; ratios are paired within a round, > 1 where espalier is faster."""
    median = statistics.median

    def speed(key):
        return {
            "espalier": median(ours[key] for ours, _ in rounds),
            "llama_cpp": median(theirs[key] for _, theirs in rounds),
            "ratio": median(ours[key] / theirs[key] for ours, theirs in rounds),
        }

    result = {"prefill_tokens_per_second": speed("prefill"), "decode_tokens_per_second": speed("decode"), "step_ms": {}}
    for nodes in STEPS:
        pairs = [(ours["verify_ms"][nodes], theirs["verify_ms"][nodes]) for ours, theirs in rounds]
        result["step_ms"][nodes] = {
            "espalier": median(pair[0] for pair in pairs),
            "llama_cpp": median(pair[1] for pair in pairs),
            "ratio": median(pair[1] / pair[0] for pair in pairs),
            "espalier_to_one": median(ours["verify_ms"][nodes] / ours["verify_ms"][1] for ours, _ in rounds),
            "llama_cpp_to_one": median(theirs["verify_ms"][nodes] / theirs["verify_ms"][1] for _, theirs in rounds),
        }
    result["read_bandwidth_bytes_per_second"] = median(ours["bandwidth"] for ours, _ in rounds)
    result["decode_bandwidth_share"] = median(ours["bandwidth_share"] for ours, _ in rounds)
    return result


def print_table(result):
    print(f"{'':24}{'espalier':>12}{'llama.cpp':>12}{'ratio':>8}")
    for key, name in (("prefill_tokens_per_second", f"prefill {PREFILL}, tokens/s"),
                      ("decode_tokens_per_second", "decode, tokens/s")):
        row = result[key]
        print(f"{name:24}{row['espalier']:12.1f}{row['llama_cpp']:12.1f}{row['ratio']:8.2f}")
    print(f"{'':24}{'':>12}{'':>12}{'':>8}{'to one: espalier, llama.cpp':>32}")
    for nodes, row in result["step_ms"].items():
        print(f"{f'step of {nodes}, ms':24}{row['espalier']:12.2f}{row['llama_cpp']:12.2f}{row['ratio']:8.2f}"
              f"{row['espalier_to_one']:22.2f}{row['llama_cpp_to_one']:10.2f}")
    print(f"decode reads {100 * result['decode_bandwidth_share']:.0f} % of "
          f"{result['read_bandwidth_bytes_per_second'] / 1e9:.1f} GB/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--weights", choices=OURS, default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file too")
    parser.add_argument("--measure-llama", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_llama:
        return measure_llama(options.model, options.threads)
    llama_cpp = import_llama()
    info = check_build(llama_cpp)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / f"{options.weights}.gguf"
        make_file(llama_cpp, options.model, file, options.weights)
        rounds = []
        for i in range(options.rounds):
            # Who goes first changes, so that a drift of the machine favours none.
            order = (run_espalier, run_llama) if i % 2 == 0 else (run_llama, run_espalier)
            found = {runner: runner(file, options.weights, options.threads) for runner in order}
            rounds.append((found[run_espalier], found[run_llama]))
            print(f"round {i + 1} of {options.rounds}", file=sys.stderr)
    result = {"threads": options.threads, "rounds": options.rounds, "llama_cpp_python": llama_cpp.__version__,
              "llama_cpp_build": info, "weights": options.weights, **summary(rounds)}
    print_table(result)
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
