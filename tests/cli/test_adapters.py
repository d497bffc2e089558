"""Adapters: bound to their base, complete, and safe when a run is killed or the disk is full."""
import json
import resource
import shutil
import signal
import subprocess

import pytest
from conftest import BINARY, DATA, error_line, run_json
from tiny_models import copy_of, header_of, save_model, train_tokenizer, write_tensors


@pytest.fixture(scope="module")
def adapter(plain, tmp_path_factory):
    """A few steps of linearization of the plain model."""
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "recipe.toml").write_text(
        'attention = "lolcats(group=8,taps=3)"\ncontext = 32\nbatch_tokens = 64\ntrained = "lora"\nlora_rank = 4\n'
        "held_out_rows = 1\n[transfer]\ntokens = 128\n[distill]\ntokens = 256\n"
    )
    linearize(plain[0], folder / "recipe.toml", folder / "run")
    return folder


def linearize(model, recipe, out, *extra, check=True, **options):
    done = subprocess.run(
        [BINARY, "linearize", model, "--recipe", recipe, "--data", DATA / "novel.txt", "--out", out, "--threads", "1", *extra],
        capture_output=True, text=True, timeout=600, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def test_adapter_of_another_base(adapter, tmp_path):
    save_model(tmp_path, seed=8)
    train_tokenizer("gpt2", tmp_path)
    line = error_line("generate", tmp_path, "--adapter", adapter / "run", "--prompt", "x", "--json", code=1)
    stated = json.loads((adapter / "run/adapter.json").read_text())["base_sha256"]
    assert stated[:12] in line


ADAPTER_FAULTS = {
    "no hash": lambda a: a.pop("base_sha256"),
    "attention of another kind": lambda a: a.update(attention=3),
    "too few layers": lambda a: a.update(attention=["softmax"]),
    "an unknown attention": lambda a: a.update(attention=["telepathy", "telepathy"]),
    "a scale of another kind": lambda a: a.update(lora_scale="two"),
}


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_hostile_adapter_json(fault, plain, adapter, tmp_path):
    copy = copy_of(adapter / "run", tmp_path)
    content = json.loads((copy / "adapter.json").read_text())
    ADAPTER_FAULTS[fault](content)
    (copy / "adapter.json").write_text(json.dumps(content))
    error_line("generate", plain[0], "--adapter", copy, "--prompt", "x", "--json", code=1)


def test_adapter_tensors_that_do_not_fit(plain, adapter, tmp_path):
    copy = copy_of(adapter / "run", tmp_path)
    path = copy / "adapter.safetensors"
    header, data = header_of(path)
    for name in [n for n in header if n != "__metadata__"][:: max(1, len(header) // 12)]:
        for change in (lambda e: e["shape"].reverse(), lambda e: e["shape"].append(1), None):
            changed = json.loads(json.dumps(header))
            if change is None:
                changed[name + ".unknown"] = changed.pop(name)
            else:
                change(changed[name])
                if changed[name]["shape"] == header[name]["shape"]:
                    continue
            write_tensors(path, changed, data)
            error_line("generate", plain[0], "--adapter", copy, "--prompt", "x", "--json", code=1)


def test_linearized_model_continues_a_saved_state(plain, adapter, tmp_path):
    options = ["--adapter", adapter / "run", "--json", "--ignore-eos"]
    [whole] = run_json("generate", plain[0], *options, "--prompt", "Once", "--max-tokens", 40)
    [first] = run_json("generate", plain[0], *options, "--prompt", "Once", "--max-tokens", 15, "--state-out", tmp_path / "s")
    assert whole["tokens"][:15] == first["tokens"]
    # Another model's state is refused.
    line = error_line("generate", plain[0], "--json", "--prompt", "x", "--state-in", tmp_path / "s", code=1)
    assert "state" in line or "attention" in line


# --- interrupted and failing runs -------------------------------------------------------------------------------------


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["stage"], row["tokens"], row["loss"]) for row in rows]


@pytest.mark.slow
def test_kill_and_resume_give_the_same_losses(plain, adapter, tmp_path):
    """kill -9 at several moments; --resume then ends with the losses and the adapter of an undisturbed run."""
    recipe = adapter / "recipe.toml"
    for kills in range(3):
        process = subprocess.Popen(
            [BINARY, "linearize", plain[0], "--recipe", recipe, "--data", DATA / "novel.txt", "--out", tmp_path / "run",
             "--threads", "1", *(["--resume"] if (tmp_path / "run/checkpoint.safetensors").exists() else [])],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=2.5 + 0.2 * kills)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    resume = ["--resume"] if (tmp_path / "run/checkpoint.safetensors").exists() else []
    if not (tmp_path / "run/adapter.json").exists():
        linearize(plain[0], recipe, tmp_path / "run", *resume)
    assert losses(tmp_path / "run") == losses(adapter / "run")
    same = (tmp_path / "run/adapter.safetensors").read_bytes() == (adapter / "run/adapter.safetensors").read_bytes()
    assert same


def test_full_disk_keeps_the_last_good_checkpoint(plain, adapter, tmp_path):
    """A limit on file sizes stands in for a full disk: the write fails half-way."""
    run_folder = tmp_path / "run"
    shutil.copytree(adapter / "run", run_folder)
    before = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text((adapter / "recipe.toml").read_text().replace("tokens = 256", "tokens = 512"))

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = linearize(plain[0], adapter / "recipe.toml", tmp_path / "fresh", check=False, preexec_fn=small_files)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: [")
    assert not (tmp_path / "fresh/adapter.json").exists()
    assert not [path for path in (tmp_path / "fresh").iterdir() if path.suffix not in (".jsonl",)]
    done = linearize(plain[0], adapter / "recipe.toml", run_folder, "--resume", check=False, preexec_fn=small_files)
    after = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    assert after["checkpoint.safetensors"] == before["checkpoint.safetensors"]
    assert set(after) == set(before)
