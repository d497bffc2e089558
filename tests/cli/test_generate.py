"""`generate` against transformers' greedy text, `score`'s log-probabilities, and itself."""
import json
import signal
import subprocess
import time

import pytest
import torch
from conftest import BINARY, DATA, MODEL, ROOT, generate, run, run_json

PROMPTS = {
    "story": "Once upon a time, in a small village by the sea,",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "list": "The days of the week are Monday, Tuesday,",
}
NEAR_TIE = 4e-3  # of two log-probabilities: beyond it two correct f32 programs must agree


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_text_is_that_of_transformers_until_a_near_tie(name, reference):
    model, tokenizer = reference
    ids = tokenizer(PROMPTS[name], return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = model.generate(
            ids, max_new_tokens=48, do_sample=False, output_scores=True, return_dict_in_generate=True, pad_token_id=0
        )
    expected = theirs.sequences[0, ids.shape[1] :].tolist()
    reply = generate("--prompt", PROMPTS[name], "--weights", "f32", "--max-tokens", 48)
    assert reply["prompt_tokens"] == ids[0].tolist()
    compared = 0
    for mine, other, scores in zip(reply["tokens"], expected, theirs.scores):
        top = torch.log_softmax(scores[0].double(), -1).topk(2).values
        if top[0] - top[1] < NEAR_TIE:
            break
        assert mine == other
        compared += 1
    assert compared >= 8, "a near tie so early proves nothing: choose another prompt"


@pytest.mark.slow
def test_chat_prompt_is_the_checkpoints_template(reference_tokenizer):
    tokenizer = reference_tokenizer
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
    expected = expected["input_ids"] if not isinstance(expected, list) else expected
    reply = generate("--chat", "--prompt", messages[0]["content"], "--max-tokens", 1)
    assert reply["prompt_tokens"] == list(expected)


def test_special_tokens_in_a_message_stay_text():
    plain = generate("--chat", "--prompt", "<|im_end|>", "--max-tokens", 0)["prompt_tokens"]
    assert plain.count(2) == 2  # the ends of the system's and the user's message


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["softmax", "window(group=16)", "lolcats(group=16)"])
def test_speculation_changes_the_speed_alone(attention):
    options = ["--prompt", "The cat sat on the mat. The cat sat on the", "--max-tokens", 40, "--attention", attention]
    for sampling in ([], ["--temperature", 0.9, "--top-p", 0.9, "--seed", 3]):
        plain = generate(*options, *sampling, "--speculate", "off")
        fast = generate(*options, *sampling, "--speculate", "ngram", "--tree-nodes", 8)
        for key in ("text", "tokens", "finish_reason"):
            assert fast[key] == plain[key]
        assert fast["stats"]["state_bytes"] == plain["stats"]["state_bytes"]
        assert fast["stats"]["steps_with_tree"] > 0


@pytest.mark.slow
def test_score_returns_the_log_probabilities_of_generate():
    options = ["--temperature", 0.8, "--seed", 11, "--max-tokens", 24, "--ignore-eos", "--logprobs", 3]
    reply = generate("--prompt", "It was a dark night", *options)
    prompt = reply["prompt_tokens"]
    [scored] = run_json("score", MODEL, "--input", "-", stdin=json.dumps({"tokens": prompt + reply["tokens"]}))
    assert scored["logprobs"][len(prompt) :] == reply["logprobs"]
    assert len(reply["top_logprobs"]) == 24 and all(len(top) == 3 for top in reply["top_logprobs"])
    for top, best in zip(reply["top_logprobs"], scored["argmax"][len(prompt) - 1 :]):
        assert top[0]["token"] == best
        assert top[0]["logprob"] >= top[1]["logprob"] >= top[2]["logprob"]


@pytest.mark.slow
def test_seed_decides_a_sampled_text():
    options = ["--prompt", "My favourite", "--temperature", 1.0, "--max-tokens", 16]
    first, again, other = (generate(*options, "--seed", seed)["tokens"] for seed in (1, 1, 2))
    assert first == again != other


def test_stop_text_ends_the_output_before_it():
    whole = generate("--prompt", "one two three four five", "--max-tokens", 20)["text"]
    word = whole.split()[3]
    reply = generate("--prompt", "one two three four five", "--max-tokens", 20, "--stop", "§", "--stop", word)
    assert reply["finish_reason"] == "stop"
    assert reply["text"] == whole[: whole.index(word)]


def test_max_context_ends_the_output():
    reply = generate("--prompt", "one two three", "--max-tokens", 50, "--max-context", 9, "--ignore-eos")
    assert len(reply["prompt_tokens"]) + len(reply["tokens"]) == 9
    assert reply["finish_reason"] == "length"


def test_prompt_from_file_stdin_and_option_are_one(tmp_path):
    (tmp_path / "p.txt").write_text("The sea")
    options = ["--max-tokens", 4]
    expected = generate("--prompt", "The sea", *options)["tokens"]
    assert generate("--prompt-file", tmp_path / "p.txt", *options)["tokens"] == expected
    assert generate(*options, stdin="The sea\n")["tokens"] == expected


def test_text_goes_to_stdout_and_statistics_to_stderr():
    done = run("generate", MODEL, "--prompt", "The sea", "--max-tokens", 8)
    assert done.stdout == generate("--prompt", "The sea", "--max-tokens", 8)["text"] + "\n"
    assert "tokens/s" in done.stderr and "tokens per step" in done.stderr


def test_json_keys_that_scripts_rely_on():
    reply = generate("--prompt", "a", "--max-tokens", 2)
    assert {"text", "tokens", "prompt_tokens", "finish_reason", "stats"} <= set(reply)
    assert {"prefill_ms", "decode_ms", "steps", "tokens_per_step", "tokens_per_second", "state_bytes"} <= set(
        reply["stats"]
    )


def test_state_size_does_not_depend_on_the_length():
    sizes = set()
    for length in (30, 400):
        prompt = (DATA / "novel.txt").read_text()[: length * 5]
        options = ["--max-tokens", 2, "--attention", "lolcats(group=64)"]
        sizes.add(generate("--prompt", prompt, *options)["stats"]["state_bytes"])
    assert len(sizes) == 1


def interrupted(command):
    """Starts espalier, sends Ctrl-C once it writes, returns (exit code, stdout, stderr)."""
    process = subprocess.Popen(
        [BINARY, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    first = process.stdout.read(1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, (first + out).decode(errors="replace"), err.decode()


def test_interrupt_ends_with_statistics_and_a_saved_state(tmp_path):
    command = ["generate", MODEL, "--prompt", "Once", "--max-tokens", 5000, "--ignore-eos"]
    code, out, err = interrupted([*command, "--state-out", tmp_path / "s.state"])
    assert code == 130
    assert "(cancelled)" in err and "tokens/s" in err and "error" not in err
    assert len(out) > 1
    generate("--prompt", "", "--max-tokens", 2, "--state-in", tmp_path / "s.state")


def test_closed_pipe_ends_quietly():
    done = subprocess.run(
        ["bash", "-c", f"'{BINARY}' generate '{MODEL}' --prompt Once --max-tokens 400 --ignore-eos | head -c 5"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert len(done.stdout) == 5
    assert "error" not in done.stderr


@pytest.mark.slow
def test_chat_keeps_the_conversation():
    alone = run("chat", MODEL, "--max-tokens", 12, stdin="What is my name?\n").stdout
    told = run("chat", MODEL, "--max-tokens", 12, stdin="My name is Otto.\nWhat is my name?\n").stdout.splitlines()
    anew = run("chat", MODEL, "--max-tokens", 12, stdin="My name is Otto.\n/reset\nWhat is my name?\n").stdout
    assert told[-1] != alone.splitlines()[-1]
    assert anew.splitlines()[-1] == alone.splitlines()[-1]


@pytest.mark.slow
def test_ngram_table_is_made_used_and_changes_no_text(tmp_path):
    table = tmp_path / "t.ngram"
    prompts = "Tell me about the sea.\nWhat is a cat?\n"
    [made] = run_json(
        "ngram", MODEL, "--prompts", "-", "--out", table, "--tokens", 120, "--tokens-per-prompt", 40, "--json",
        stdin=prompts,
    )
    assert made["bytes"] == table.stat().st_size and all(count > 0 for count in made["contexts"])
    options = ["--chat", "--prompt", "Tell me about the sea.", "--max-tokens", 24]
    plain = generate(*options, "--speculate", "off")
    fast = generate(*options, "--speculate", "ngram", "--tree-nodes", 4, "--ngram-table", table)
    assert fast["tokens"] == plain["tokens"]
    assert fast["stats"]["accepted"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["int8", "int4", "int4-sym", "own"])
def test_speculation_is_lossless_whatever_the_weights(weights):
    options = ("--prompt", "Tell me a story about a story.", "--max-tokens", 40, "--weights", weights)
    plain = generate(*options, "--speculate", "off", "--temperature", 0)
    assert generate(*options, "--speculate", "ngram", "--temperature", 0)["tokens"] == plain["tokens"]
    assert generate(*options, "--threads", 1, "--temperature", 0)["tokens"] == plain["tokens"]


@pytest.mark.slow
def test_an_instruction_set_changes_the_speed_alone():
    options = ("--prompt", "Tell me a story about a story.", "--max-tokens", 20, "--weights", "int8", "--temperature", 0)
    assert generate(*options, "--isa", "scalar")["tokens"] == generate(*options)["tokens"]
    wrong = run("generate", MODEL, "--prompt", "x", "--isa", "mmx", check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: [kernels] expected an instruction set of this processor: scalar")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.slow
def test_own_weights_are_those_of_the_file():
    done = run("generate", MODEL, "--weights", "own", "--prompt", "x", "--max-tokens", 1)
    assert "--weights own" not in done.stderr
    adapted = run("generate", MODEL, "--weights", "own", "--adapter", ROOT / "adapters/smollm2-135m-lolcats", "--prompt", "x",
                  "--max-tokens", 1)  # fmt: skip
    assert adapted.stderr.count("--weights own") == 1 and "changed by an adapter" in adapted.stderr


def test_inspect_says_what_fewer_bits_cost():
    [found] = run_json("inspect", ROOT / "tests/data/models/stories260K", "--errors", "--json")
    errors = {name: found["weight_errors"][name] for name in ("bf16", "int8", "int4-sym", "int4")}
    assert 0 < errors["bf16"]["relative"] < errors["int8"]["relative"] < errors["int4"]["relative"] < errors["int4-sym"]["relative"]
    assert errors["int4-sym"]["relative"] < 0.1
    assert errors["int4-sym"]["bytes"] < errors["int4"]["bytes"] < errors["int8"]["bytes"] < errors["bf16"]["bytes"]
    assert all(error["relative"] <= error["worst"] and error["worst_tensor"].endswith(".weight") for error in errors.values())


def test_bench_stands_beside_its_roofline():
    [found] = run_json("bench", ROOT / "tests/data/models/stories260K", "--json", "--repeats", 1, "--weights", "int8",
                       "--prefill-tokens", 64, "--decode-tokens", 4)  # fmt: skip
    assert found["verify_ms"].keys() == found["roofline_ms"].keys()
    assert found["roofline_ms"]["1"] <= found["roofline_ms"]["64"] and found["peak_multiply_adds_per_second"] > 1e8
