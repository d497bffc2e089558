"""Small models of other programs as Hugging Face directories.

  convert_model.py mingpt MODEL.json OUT [--activations PARTIALS.json]   minGPT weights as JSON with base64 (llm-viz)
  convert_model.py llama2c MODEL.bin OUT [--tokenizer TOKENIZER.bin]     llama2.c's first format

OUT gets config.json and model.safetensors; of minGPT's recorded activations activations.safetensors; of llama2.c's
tokenizer tokenizer.json.
"""
import argparse
import base64
import json
import pathlib
import struct
import sys

import numpy as np
from safetensors.numpy import save_file


def fail(where, expected, got):
    sys.exit(f"error: [{where}] expected {expected}, got {got}")


def write(out, config, tensors):
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, out / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip


def decoded(entry):
    return np.frombuffer(base64.b64decode(entry["data"]), np.float32).reshape(entry["shape"])


def mingpt(options):
    model = json.loads(pathlib.Path(options.model).read_text())
    shape = model.pop("config")
    config = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], n_layer=shape["n_layer"], n_head=shape["n_head"],
                  n_embd=shape["n_embd"], n_positions=shape["block_size"], vocab_size=shape["vocab_size"],
                  activation_function="gelu_new", layer_norm_epsilon=1e-5, tie_word_embeddings=False)  # fmt: skip
    tensors = {}
    for name, entry in model.items():
        if name.endswith(".attn.bias"):
            continue  # the causal mask
        linear = name.endswith(".weight") and any(part in name for part in (".attn.c_", ".mlp.c_"))
        tensors[name] = decoded(entry).T if linear else decoded(entry)  # GPT-2's files hold [in, out]
    write(options.out, config, tensors)
    if options.activations:
        stages = json.loads(pathlib.Path(options.activations).read_text())
        save_file({name: decoded(entry).copy() for name, entry in stages.items() if "data" in entry},
                  options.out / "activations.safetensors")  # fmt: skip


def halves(weight, heads):
    """Rows of adjacent rotary pairs (0 1, 2 3, …) as rows of halves (0 2 …, 1 3 …)."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).transpose(0, 2, 1, 3).reshape(rows, width)


def llama2c(options):
    data = pathlib.Path(options.model).read_bytes()
    if len(data) < 28:
        fail(options.model, "a header of 28 bytes", f"{len(data)} bytes")
    d, mlp, layers, heads, heads_kv, vocab, positions = struct.unpack_from("<7i", data)
    tied, vocab, head = vocab > 0, abs(vocab), d // heads
    values, at = np.frombuffer(data, np.float32, offset=28), 0
    sizes = (vocab * d, layers * d, layers * d * d, 2 * layers * heads_kv * head * d, layers * d * d, layers * d,
             3 * layers * mlp * d, d, positions * head, 0 if tied else vocab * d)  # fmt: skip
    if min(d, mlp, layers, heads, heads_kv, positions) < 1 or sum(sizes) != len(values):
        fail(options.model, f"{sum(sizes)} numbers, as the header says", len(values))

    def take(*shape):
        nonlocal at
        part = values[at : at + int(np.prod(shape))].reshape(shape)
        at += part.size
        return part

    tensors = {"model.embed_tokens.weight": take(vocab, d)}
    names = [("input_layernorm", (d,)), ("self_attn.q_proj", (d, d)), ("self_attn.k_proj", (heads_kv * head, d)),
             ("self_attn.v_proj", (heads_kv * head, d)), ("self_attn.o_proj", (d, d)), ("post_attention_layernorm", (d,)),
             ("mlp.gate_proj", (mlp, d)), ("mlp.down_proj", (d, mlp)), ("mlp.up_proj", (mlp, d))]  # fmt: skip
    for name, shape in names:
        for layer, weight in enumerate(take(layers, *shape)):
            if name.endswith(("q_proj", "k_proj")):
                weight = halves(weight, heads if "q_proj" in name else heads_kv)
            tensors[f"model.layers.{layer}.{name}.weight"] = weight
    tensors["model.norm.weight"] = take(d)
    take(positions * head)  # tables of sines
    if not tied:
        tensors["lm_head.weight"] = take(vocab, d)
    config = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=vocab, hidden_size=d,
                  intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads_kv,
                  max_position_embeddings=positions, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
                  tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2)  # fmt: skip
    write(options.out, config, tensors)
    if options.tokenizer:
        (options.out / "tokenizer.json").write_text(json.dumps(llama2c_tokenizer(options.tokenizer, vocab)))
        (options.out / "tokenizer_config.json").write_text(
            json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"})
        )


def llama2c_tokenizer(path, vocab):
    """SentencePiece BPE: the pair whose piece has the best score merges first, so scores give the order of merges."""
    data, at, pieces = pathlib.Path(path).read_bytes(), 4, []
    for _ in range(vocab):
        score, length = struct.unpack_from("<fi", data, at)
        text = data[at + 8 : at + 8 + length].decode()
        pieces.append((text.strip() if len(pieces) < 3 else text.replace(" ", "\u2581"), score))
        at += 8 + length
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    merges = []
    for text, score in pieces[259:]:
        for cut in range(1, len(text)):
            if text[:cut] in ids and text[cut:] in ids:
                merges.append((-score, ids[text], text[:cut], text[cut:]))
    special = [dict(id=i, content=pieces[i][0], single_word=False, lstrip=False, rstrip=False, normalized=False,
                    special=True) for i in range(3)]  # fmt: skip
    return {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": ids, "merges": [[left, right] for _, _, left, right in sorted(merges)]},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    for name, run, extra in (("mingpt", mingpt, "--activations"), ("llama2c", llama2c, "--tokenizer")):
        kind = kinds.add_parser(name)
        kind.add_argument("model")
        kind.add_argument("out", type=pathlib.Path)
        kind.add_argument(extra)
        kind.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


main()
