"""Every model family against transformers: random small models of odd sizes, logits at every position."""
import json

import pytest
import torch
from conftest import error_line, run
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, LlamaConfig, LlamaForCausalLM

LLAMA = dict(vocab_size=131, hidden_size=60, intermediate_size=77, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=3, head_dim=12, max_position_embeddings=160, initializer_range=0.2)  # fmt: skip
GPT2 = dict(vocab_size=131, n_embd=60, n_layer=2, n_head=5, n_positions=160, n_inner=77, initializer_range=0.2)


def llama3(factor):
    return dict(rope_type="llama3", rope_theta=1e4, factor=factor, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=32)  # fmt: skip


MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "llama, biases": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True)),
    "llama, gelu": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, hidden_act="gelu")),
    "llama, llama3 positions": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, rope_parameters=llama3(8.0))),
    "llama, linear positions": lambda: LlamaForCausalLM(
        LlamaConfig(**LLAMA, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=4.0))
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "gpt2, untied": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, tie_word_embeddings=False)),
    "gpt2, relu": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, activation_function="relu")),
}


def seed_of(name):
    seed = sum(name.encode())
    print(f"seed {seed}")
    return seed


def random_model(name):
    """All parameters random: biases and norms too, which transformers starts at 0 and 1."""
    torch.manual_seed(seed_of(name))
    model = MODELS[name]().eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() == 1:
                value.add_(torch.randn_like(value) * 0.2)
    return model


def logits_of(folder, sequences, tmp_path, *options):
    lines = "\n".join(json.dumps({"tokens": ids}) for ids in sequences)
    run("score", folder, "--weights", "f32", "--input", "-", "--logits", tmp_path / "logits.safetensors", *options, stdin=lines)
    logits = load_file(tmp_path / "logits.safetensors")
    return [logits[f"logits.{i}"] for i in range(len(sequences))]


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    generator = torch.Generator().manual_seed(seed_of(name))
    sequences = [torch.randint(0, 131, (n,), generator=generator).tolist() for n in (1, 2, 17, 160)]
    for ids, got in zip(sequences, logits_of(tmp_path / "model", sequences, tmp_path), strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0]
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-4


def test_a_gpt2_without_its_head_is_read(tmp_path):
    torch.manual_seed(1)
    whole = GPT2LMHeadModel(GPT2Config(**GPT2)).eval()
    bare = GPT2Model(whole.config)
    bare.load_state_dict(whole.transformer.state_dict())
    bare.save_pretrained(tmp_path / "bare")
    ids = list(range(30))
    [got] = logits_of(tmp_path / "bare", [ids], tmp_path)
    with torch.no_grad():
        assert (got - whole(torch.tensor([ids])).logits[0]).abs().max() <= 1e-4


def test_gpt2_ends_where_its_positions_end(tmp_path):
    random_model("gpt2").save_pretrained(tmp_path)
    for attention in ("softmax", "window(group=16)"):
        line = json.dumps({"tokens": [1] * 161})
        assert "160" in error_line("score", tmp_path, "--attention", attention, "--input", "-", stdin=line, code=1)


@pytest.mark.parametrize(
    "change,says",
    [
        (dict(activation_function="mish"), "mish"),
        (dict(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
        (dict(n_head=7), "n_head"),
        (dict(n_inner=78), "mlp.up_proj"),
        (dict(n_positions=161), "wpe"),
    ],
)
def test_refused_gpt2_configs(change, says, tmp_path):
    random_model("gpt2").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert says in error_line("score", tmp_path, "--input", "-", stdin='{"tokens": [1]}', code=1)
