"""Models written back as directories: transformers reads them with equal logits, and so do we."""
import json
import shutil
import signal
import subprocess
import time

import pytest
import torch
from conftest import BINARY, MODEL, ROOT, error_line, generate, run, run_json
from flash_model import FlashModel
from safetensors.torch import load_file
from test_families import ENCODER_DECODERS, ENCODERS, MODELS, logits_of, random_model
from tiny_models import save_model, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer


def tensors_of(folder):
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@pytest.mark.parametrize("name", [*MODELS, *ENCODERS, *ENCODER_DECODERS])
def test_every_family_comes_back_as_it_was(name, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    run("save", tmp_path / "model", "--out", tmp_path / "saved")
    before, after = tensors_of(tmp_path / "model"), tensors_of(tmp_path / "saved")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    again = type(model).from_pretrained(tmp_path / "saved").eval()
    ids = torch.tensor([[3, 1, 4, 1, 5, 92, 65]])
    extra = {"decoder_input_ids": ids} if "t5" in name else {}
    with torch.no_grad():
        assert torch.equal(model(ids, **extra)[0], again(ids, **extra)[0])


def test_flash_comes_back_as_it_was(tmp_path):
    model = FlashModel(3, conv=True, kernel=7)
    model.save(tmp_path / "model", prefix="net.")
    run("save", tmp_path / "model", "--out", tmp_path / "saved")
    after = tensors_of(tmp_path / "saved")
    for name, value in model.weights.items():
        if name.endswith("dwconv.weight"):  # taps that the original zeroes
            value = value.clone()
            value[0, 0, 4:] = 0
        assert torch.equal(value, after["net." + name]), name
    assert "espalier" not in json.loads((tmp_path / "saved/config.json").read_text())


@pytest.mark.parametrize("kind", ["gpt2", "smollm", "llama3"])
def test_a_tokenizer_goes_along(kind, tmp_path):
    train_tokenizer(kind, tmp_path / "model")
    save_model(tmp_path / "model")
    run("save", tmp_path / "model", "--out", tmp_path / "saved")
    assert (tmp_path / "saved/tokenizer.json").read_bytes() == (tmp_path / "model/tokenizer.json").read_bytes()


@pytest.mark.slow
def test_a_gguf_file_becomes_a_model_of_transformers(reference, tmp_path):
    run("save", MODEL, "--out", tmp_path / "saved")
    model, _ = reference
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "Öl, 12345 and <|im_start|>user's\n\n  code():\treturn x"
    [tokens] = run_json("tokenize", MODEL, "--special", stdin=text.replace("\n", " "))
    assert tokenizer(text.replace("\n", " "))["input_ids"] == tokens["tokens"]
    ids = torch.tensor([tokens["tokens"]])
    with torch.no_grad():
        assert (model(ids).logits - again(ids).logits).abs().max() <= 1e-4
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False).endswith("<|im_end|>\n")
    options = ("--prompt", "Once upon a time", "--max-tokens", 20, "--temperature", 0)
    [reply] = run_json("generate", tmp_path / "saved", "--json", *options)
    assert reply["tokens"] == generate(*options)["tokens"]


@pytest.mark.slow
def test_a_linearized_model_keeps_its_attention(tmp_path):
    adapter = ROOT / "adapters/smollm2-135m-lolcats"
    run("save", MODEL, "--adapter", adapter, "--out", tmp_path / "saved", "--dtype", "f32")
    options = ("--prompt", "Once upon a time", "--max-tokens", 40, "--temperature", 0)
    [reply] = run_json("generate", tmp_path / "saved", "--json", *options)
    assert reply["tokens"] == generate(*options, "--adapter", adapter)["tokens"]
    shown = run("inspect", tmp_path / "saved").stdout
    assert "lolcats" in shown


@pytest.mark.parametrize("attention", ["augmented(group=8,taps=4)", "gated_delta(conv=4)", "performer"])
def test_an_untrained_attention_is_written_with_its_initial_values(attention, tmp_path):
    save_model(tmp_path / "model")
    run("save", tmp_path / "model", "--attention", attention, "--out", tmp_path / "saved")
    sequences = [list(range(5, 60))]
    [first] = logits_of(tmp_path / "model", sequences, tmp_path, "--attention", attention)
    [second] = logits_of(tmp_path / "saved", sequences, tmp_path)
    assert torch.equal(first, second)


def test_encoders_keep_theirs(tmp_path):
    random_model("t5").save_pretrained(tmp_path / "model")
    options = ("--encoder-attention", "augmented(group=8,taps=3)", "--attention", "flash_local(group=8)")
    run("save", tmp_path / "model", *options, "--out", tmp_path / "saved")
    line = json.dumps({"source_tokens": list(range(3, 40)), "tokens": [5, 6, 7, 8]})
    first = run_json("score", tmp_path / "model", *options, "--input", "-", stdin=line)
    assert first == run_json("score", tmp_path / "saved", "--input", "-", stdin=line)


def test_bf16_is_bf16(tmp_path):
    save_model(tmp_path / "model")
    run("save", tmp_path / "model", "--out", tmp_path / "saved", "--dtype", "bf16")
    before, after = tensors_of(tmp_path / "model"), tensors_of(tmp_path / "saved")
    assert all(torch.equal(before[key].bfloat16(), after[key]) for key in before)


def test_nothing_is_overwritten_or_half_written(tmp_path):
    save_model(tmp_path / "model")
    assert "new directory" in error_line("save", tmp_path / "model", "--out", tmp_path / "model", code=1)
    assert "folder" in error_line("save", tmp_path / "model", "--out", "/proc/nowhere/x", code=1)
    shutil.copytree(tmp_path / "model", tmp_path / "broken")
    path = next((tmp_path / "broken").glob("*.safetensors"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"F32"', b'"F99"', 1))
    error_line("save", tmp_path / "broken", "--out", tmp_path / "saved", code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "model"]


def test_an_attention_for_too_few_layers_is_refused(tmp_path):
    save_model(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text()) | {"espalier": {"attention": ["softmax"]}}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    for verb in (["save", tmp_path / "model", "--out", tmp_path / "saved"], ["inspect", tmp_path / "model"]):
        assert "espalier.attention" in error_line(*verb, code=1)


def test_an_interrupted_save_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen([BINARY, "save", MODEL, "--out", tmp_path / "saved"], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("saved.*/*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    line = process.stderr.read()
    if process.wait() == 130:  # else it was done before
        assert "interrupted" in line and list(tmp_path.iterdir()) == []
    else:
        assert (tmp_path / "saved/config.json").exists()
