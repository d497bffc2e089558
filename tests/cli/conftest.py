import json
import os
import pathlib
import subprocess
import tempfile

import pytest

# What runs remember of step times is nobody else's here.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="espalier-tests-")
ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/smollm2-135m-instruct.gguf"
BINARY = pathlib.Path(os.environ.get("ESPALIER", ROOT / "build/release/espalier"))
DATA = ROOT / "tests/data/cli"


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out of make check")


def run(*arguments, stdin="", check=True, **options):
    """Runs espalier; returns the finished process, after asserting success unless check is off."""
    options.setdefault("timeout", 600)
    done = subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, text=True, **options)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def run_json(*arguments, **options):
    return [json.loads(line) for line in run(*arguments, **options).stdout.splitlines()]


def generate(*arguments, **options):
    [reply] = run_json("generate", MODEL, "--json", *arguments, **options)
    return reply


def error_line(*arguments, code, **options):
    """The one line that espalier fails with, and nothing on stdout."""
    done = run(*arguments, check=False, **options)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("error: [") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def reference_tokenizer():
    """transformers' tokenizer, loaded from the same GGUF file.

    Its conversion drops the pre-tokenizer that the file names ("smollm"), so it is set to the one of the model's own
    tokenizer.json: every digit alone, then GPT-2's byte level.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def reference(reference_tokenizer):
    """transformers' model and tokenizer, loaded from the same GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32).eval()
    return model, reference_tokenizer


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A tiny model in a directory of its own: (directory, tokenizers' Tokenizer, transformers' model)."""
    from tiny_models import save_model, train_tokenizer

    folder = tmp_path_factory.mktemp("plain")
    return folder, train_tokenizer("gpt2", folder), save_model(folder)
