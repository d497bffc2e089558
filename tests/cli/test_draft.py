"""`draft`, --draft-head and --draft-model: texts stay the same, heads are bound to their base, hostile files are refused."""
import json
import signal
import subprocess
import time

import pytest
from conftest import BINARY, error_line, run, run_json
from tiny_models import copy_of, save_model, train_tokenizer

PROMPTS = ["Alice was beginning", "The cat", "Down", '"Two\\nlines"', "Once upon a time there were", "Oh dear"]


def draft(model, folder, *options, **others):
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return run("draft", model, "--plain", "--prompts", folder / "prompts.txt", "--out", folder / "head", "--tokens", 900,
               "--tokens-per-prompt", 20, "--vocabulary", 100, "--epochs", 3, "--batch", 64, "--threads", 1, *options, **others)  # fmt: skip


@pytest.fixture(scope="module")
def head(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("draft")
    [found] = [json.loads(line) for line in draft(plain[0], folder, "--json").stdout.splitlines()]
    assert found["tokens"] >= 900 and 0 < found["coverage"] <= 1 and len(found["agreement"]) == 4
    return folder / "head"


def test_a_head_and_a_small_model_change_no_text(plain, head, tmp_path):
    save_model(tmp_path, seed=4, num_hidden_layers=1)
    train_tokenizer("gpt2", tmp_path)
    for temperature in (0, 0.8):
        generate = ("generate", plain[0], "--prompt", "Alice", "--max-tokens", 60, "--temperature", temperature, "--json")
        [expected] = run_json(*generate, "--speculate", "off")
        for options in (("--draft-head", head), ("--draft-model", tmp_path), ("--draft-head", head, "--draft-model", plain[0])):
            [found] = run_json(*generate, *options, "--tree-nodes", 6)
            assert found["tokens"] == expected["tokens"]
            assert found["stats"]["drafted"] > 0
    [itself] = run_json(*generate[:6], "--json", "--draft-model", plain[0], "--tree-nodes", 6)
    assert itself["stats"]["tokens_per_step"] > 1.5


def test_a_run_goes_on_where_it_was_interrupted(plain, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    command = [BINARY, "draft", plain[0], "--plain", "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "head",
               "--tokens", "2000", "--tokens-per-prompt", "40", "--vocabulary", "100", "--epochs", "2000"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not (tmp_path / "head/metrics.jsonl").exists() and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in stderr.splitlines()[-1]
    assert not (tmp_path / "head/draft_head.json").exists() and (tmp_path / "head/checkpoint.safetensors").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "--resume" in done.stderr
    again = subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE, text=True)
    steps = len((tmp_path / "head/metrics.jsonl").read_text().splitlines())
    while len((tmp_path / "head/metrics.jsonl").read_text().splitlines()) < steps + 3 and time.time() < deadline:
        time.sleep(0.1)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    lines = [json.loads(line)["step"] for line in (tmp_path / "head/metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, len(lines) + 1)) and len(lines) > steps


FAULTS = {
    "format": lambda j: j.update(format="espalier-adapter-1"),
    "base_sha256": lambda j: j.pop("base_sha256"),
    "tokens": lambda j: j.update(tokens=[1, 1]),
    "no tokens": lambda j: j.update(tokens=[]),
    "tokens of another kind": lambda j: j.update(tokens=["a"]),
    "tokens that are not there": lambda j: j.update(tokens=[500]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_hostile_heads(fault, plain, head, tmp_path):
    copy = copy_of(head, tmp_path)
    content = json.loads((copy / "draft_head.json").read_text())
    FAULTS[fault](content)
    (copy / "draft_head.json").write_text(json.dumps(content))
    line = error_line("generate", plain[0], "--draft-head", copy, "--prompt", "x", "--json", code=1)
    assert "draft_head" in line


def test_heads_and_models_that_do_not_fit(plain, head, tmp_path):
    generate = ("generate", plain[0], "--prompt", "x", "--json")
    save_model(tmp_path / "other", seed=8)
    train_tokenizer("gpt2", tmp_path / "other")
    stated = json.loads((head / "draft_head.json").read_text())["base_sha256"]
    other = ("generate", tmp_path / "other", "--prompt", "x", "--json", "--draft-head", head)
    assert stated[:12] in error_line(*other, code=1)
    assert "nothing" in error_line(*generate, "--draft-head", tmp_path / "nothing", code=1)
    assert "nothing" in error_line(*generate, "--draft-model", tmp_path / "nothing", code=1)
    save_model(tmp_path / "wide", seed=8, vocab_size=512)
    train_tokenizer("gpt2", tmp_path / "wide")
    assert "512" in error_line(*generate, "--draft-model", tmp_path / "wide", code=1)
    copy = copy_of(head, tmp_path)
    content = (copy / "draft_head.safetensors").read_bytes()
    (copy / "draft_head.safetensors").write_bytes(content[: len(content) // 2])
    assert "draft_head.safetensors" in error_line(*generate, "--draft-head", copy, code=1)
    assert "nothing.txt" in error_line("draft", plain[0], "--prompts", tmp_path / "nothing.txt", "--out", tmp_path / "x", code=1)
    assert "--speculate" in error_line(*generate, "--draft-head", head, "--speculate", "ngram", code=2)
    assert "--prompts" in error_line("bench", plain[0], "--draft-head", head, code=2)
    assert "--tokens" in error_line("draft", plain[0], "--prompts", "p", "--out", "x", "--tokens", 0, code=2)
