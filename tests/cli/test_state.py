"""--state-out and --state-in: go on as if nothing had happened, and refuse what does not belong."""
import resource

import pytest
from conftest import MODEL, error_line, generate, run

PROMPT = ["--prompt", "The lighthouse keeper opened the door and"]


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["softmax", "lolcats(group=16)"])
@pytest.mark.parametrize("sampling", [[], ["--temperature", 0.8, "--seed", 5, "--repeat-penalty", 1.1]])
def test_continued_is_uninterrupted(tmp_path, attention, sampling):
    options = [*sampling, "--attention", attention, "--ignore-eos"]
    whole = generate(*PROMPT, "--max-tokens", 30, *options)
    first = generate(*PROMPT, "--max-tokens", 13, *options, "--state-out", tmp_path / "s")
    rest = generate("--prompt", "", "--max-tokens", 17, *options, "--state-in", tmp_path / "s")
    assert first["tokens"] + rest["tokens"] == whole["tokens"]
    assert rest["stats"]["state_bytes"] == whole["stats"]["state_bytes"]


@pytest.mark.slow
def test_a_reply_is_ended_once_before_the_next_message(tmp_path):
    options = ["--chat", "--temperature", 0, "--prompt"]
    whole = generate(*options, "Say only the word yes.", "--max-tokens", 60, "--state-out", tmp_path / "whole")
    cut = generate(*options, "Say only the word yes.", "--max-tokens", 1, "--state-out", tmp_path / "cut")
    assert (whole["finish_reason"], cut["finish_reason"]) == ("stop", "length")
    end = whole["tokens"][-1]
    after_whole, after_cut = (
        generate(*options, "Again.", "--max-tokens", 0, "--state-in", tmp_path / name)["prompt_tokens"]
        for name in ("whole", "cut")
    )
    # The last token of a reply comes with what follows, as the state has not seen it yet.
    assert after_whole[0] == end and after_whole[1] != end
    assert after_cut == [cut["tokens"][-1], *after_whole]


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "s"
    generate(*PROMPT, "--max-tokens", 3, "--attention", "window", "--state-out", path)
    return path


def continued(path, *options, code=1):
    return error_line("generate", MODEL, "--prompt", "x", "--state-in", path, *options, code=code)


@pytest.mark.slow
def test_a_state_belongs_to_its_model(state):
    assert "attention" in continued(state)
    assert "weights" in continued(state, "--attention", "window", "--weights", "f32")
    assert "attention" in continued(state, "--attention", "window(group=32)")


@pytest.mark.slow
def test_damaged_states_are_refused(state, tmp_path):
    good = state.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for name, damaged in {
        "empty": b"",
        "short": good[:-1],
        "half": good[: len(good) // 2],
        "flipped": bytes(flipped),
        "longer": good + b"\0",
        "another format": b"GGUF" + good[4:],
    }.items():
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        assert "damaged" in continued(path, "--attention", "window"), name


def test_no_room_leaves_the_old_state(state, tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    done = run(
        "generate", MODEL, *PROMPT, "--max-tokens", 2, "--json", "--state-out", path, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert done.returncode == 1 and done.stderr.startswith("error: [")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_no_such_folder(tmp_path):
    done = run(
        "generate", MODEL, *PROMPT, "--max-tokens", 1, "--json", "--state-out", tmp_path / "none/s", check=False
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "none/s" in done.stderr
