"""The FLASH family: layers against what the authors' code returned, whole models against their formulas."""
import json

import pytest
import torch
from conftest import ROOT, error_line, run_json
from flash_model import FlashModel, layer
from safetensors import safe_open
from test_families import logits_of
from tiny_models import train_tokenizer

LAYERS = sorted((ROOT / "tests/data/attention").glob("flash_layer_*.safetensors"))
MODELS = {
    "as trained": dict(conv=True),
    "relu2": dict(laplace_attn_fn=False, conv=True, kernel=9),
    "layernorm, no shift": dict(norm_type="layernorm", shift_tokens=False),
    "local": dict(global_=False),
    "global": dict(local_=False, conv=True),
    "castling": dict(conv=True, castling=True, laplace_attn_fn=False),
    "castling without a convolution": dict(castling=True),
    "wide": dict(query_key_dim=50, expansion_factor=1.5, group_size=5),
    "bidirectional": dict(causal=False, conv=True),
}


def config_of(flags, dims):
    sizes = dict(part.split("=") for part in dims.replace(" (expanded value dim)", "").split(", "))
    flags = json.loads(flags)
    return dict(
        group_size=int(sizes["G"]),
        query_key_dim=int(sizes["d_qk"]),
        causal=flags["causal"],
        norm_type=flags["norm"] + "norm",
        shift_tokens=flags["shift_tokens"],
        laplace_attn_fn=flags["laplace"],
        conv=flags["conv"],
        kernel=63,
        castling=flags.get("castling", False),
        local_=flags.get("local_", True),
        global_=flags.get("global_", True),
    )


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_the_formulas_are_those_of_the_authors_code(path):
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = config_of(metadata["flags"], metadata["dims"])
    weights = {name.removeprefix("param."): value.double() for name, value in tensors.items() if name.startswith("param.")}
    [x] = tensors["x"].double().requires_grad_()
    for value in weights.values():
        value.requires_grad_()
    got = layer(x, weights, config, tensors["mask"][0].double() if "mask" in tensors else None)
    [expected] = tensors["out"].double()
    assert ((got - expected).abs() <= 5e-5 * (1 + expected.abs().amax(-1, keepdim=True))).all()
    if "d_out" not in tensors:
        return
    got.backward(tensors["d_out"][0].double())
    for name, value in weights.items():
        gradient = tensors[f"d_param.{name}"].double().reshape(value.shape)
        if name == "dwconv.weight":  # the original's mask acts outside of its graph: other taps have no meaning
            value, gradient = value.grad[:32], gradient[:32]
        else:
            value = value.grad
        assert (value - gradient).abs().max() <= 5e-5 * (1 + gradient.abs().max()), name


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_formulas(name, tmp_path):
    seed = sum(name.encode())
    print(f"seed {seed}")
    model = FlashModel(seed, **MODELS[name])
    model.save(tmp_path / "model", prefix="net." if seed % 2 else "")
    generator = torch.Generator().manual_seed(seed)
    sequences = [torch.randint(0, 131, (n,), generator=generator).tolist() for n in (1, 2, 15, 16, 17, 33, 150)]
    for ids, got in zip(sequences, logits_of(tmp_path / "model", sequences, tmp_path), strict=True):
        assert (got - model.logits(torch.tensor(ids))).abs().max() <= 1e-4


def test_speculation_changes_nothing_and_attention_can_be_swapped(tmp_path):
    FlashModel(5, conv=True, num_tokens=500).save(tmp_path / "model")
    train_tokenizer("gpt2", tmp_path / "model")
    for attention in ([], ["--attention", "softmax"], ["--attention", "augmented(group=16,taps=32)"]):
        plain, tree = (
            run_json("generate", tmp_path / "model", *attention, "--prompt", "to be or not to be or not", "--max-tokens", 60, "--json",
                     "--speculate", kind)[0]["tokens"]
            for kind in ("off", "ngram")
        )  # fmt: skip
        assert plain == tree


@pytest.mark.parametrize(
    "change,says",
    [
        (dict(square=True), "square"),
        (dict(softmax=True), "softmax"),
        (dict(norm_type="rmsnorm"), "rmsnorm"),
        (dict(local_=False, global_=False), "local_"),
        (dict(query_key_dim=21), "query_key_dim"),
        (dict(dim=26), "to_qk"),
        (dict(conv=True), "conv.weight"),
        (dict(expansion_factor=1e9), "expansion_factor"),
    ],
)
def test_refused_configs(change, says, tmp_path):
    FlashModel(1).save(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text()) | change
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    line = json.dumps({"tokens": [1, 2]})
    assert says in error_line("score", tmp_path / "model", "--input", "-", stdin=line, code=1)


def test_a_convolution_of_no_taps_is_refused(tmp_path):
    model = FlashModel(1)
    model.weights["layers.0.dwconv.weight"] = torch.zeros(1, 1, 0, 1)
    model.save(tmp_path / "model")
    line = json.dumps({"tokens": [1, 2]})
    assert "dwconv.weight" in error_line("score", tmp_path / "model", "--input", "-", stdin=line, code=1)
