"""GGUF files written by the gguf package: results are those of the same model as a Hugging Face directory."""
import json

import gguf
import pytest
from conftest import DATA, run_json
from tiny_models import save_model, train_tokenizer

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return NAMES[stem] + ".weight"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.weight"


def write_gguf(path, model, tokenizer):
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if piece == "<|end|>" else 1 for piece in pieces])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for name, tensor in model.state_dict().items():
        values = tensor.float()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:  # within a head GGUF has the two halves by turns
                values = values.reshape(heads, 2, -1, values.shape[1]).transpose(1, 2).reshape(values.shape)
        writer.add_tensor(gguf_name(name), values.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# Models are packed some rows at a time: 60 heads of 12 and 10 of 108 are cut within a head.
@pytest.mark.parametrize("heads,kv_heads,head_dim", [(4, 2, 16), (60, 30, 12), (10, 5, 108)])
@pytest.mark.parametrize("weights", ["f32", "int8"])
def test_scores_are_those_of_the_directory(heads, kv_heads, head_dim, weights, tmp_path):
    folder = tmp_path / "model"
    tokenizer = train_tokenizer("smollm", folder)
    size = heads * head_dim
    model = save_model(folder, vocab_size=tokenizer.get_vocab_size(), hidden_size=size, num_attention_heads=heads,
                       num_key_value_heads=kv_heads, initializer_range=0.05)  # fmt: skip
    write_gguf(tmp_path / "model.gguf", model, tokenizer)
    line = json.dumps({"text": next(iter(sorted(DATA.glob("*.txt")))).read_bytes().decode()[:200]})
    expected = run_json("score", folder, "--weights", weights, "--input", "-", stdin=line)
    assert run_json("score", tmp_path / "model.gguf", "--weights", weights, "--input", "-", stdin=line) == expected
