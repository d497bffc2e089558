"""Hugging Face directories: results against transformers and tokenizers; damaged and hostile ones are refused."""
import json
import os
import random
import struct

import pytest
import torch
from conftest import DATA, error_line, run, run_json
from scripts_of_the_world import texts as many_texts
from tiny_models import PRE_TOKENIZERS, copy_of, header_of, save_model, train_tokenizer, write_tensors
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

TEXTS = [
    "a", " ", "  ", "\n", " \n \n\n x", "\t\tx = 1\r\n", "It's we'll I'D THEY'RE 'tis ''s", "1234567 12 3.14 ٣٤٥ ²³ Ⅷ",
    "über naïve Straße ÄÖÜ ﬁne", "日本語のテキスト、句読点。", "👩‍👩‍👧‍👦 🇩🇪 👍🏽!", "a\u0301 e\u0308\u200d\u00a0x\u3000y\u2028z", "<|end|>",
    "x <|end|>\n<|end|> y", "…—“quoted” ‘single’", "\x00\x01\x7f", "def f(x):\n    return x**2  # ok\n", "𝔘𝔫𝔦 𐍈 \U0010ffff", "﷽",
]  # fmt: skip


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_token_ids_are_those_of_the_tokenizers_library(kind, tmp_path):
    tokenizer = train_tokenizer(kind, tmp_path)
    save_model(tmp_path, max_position_embeddings=4096)
    pick = random.Random(1)
    alphabet = "ab Z09'\n\t\r .,éß日👍\u0301\u200d\u00a0<|end|>"
    texts = TEXTS + ["".join(pick.choice(alphabet) for _ in range(pick.randrange(1, 60))) for _ in range(200)]
    texts += [path.read_bytes().decode()[:1500] for path in DATA.glob("*.txt")]
    # `score` parses no special tokens in a text: it is a user's.
    special = tokenizer.to_str()
    without = json.loads(special)
    without["added_tokens"] = []
    plain_tokenizer = Tokenizer.from_str(json.dumps(without))
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    scored = run_json("score", tmp_path, "--input", "-", stdin=lines, timeout=900)
    for text, row in zip(texts, scored, strict=True):
        assert row["tokens"] == plain_tokenizer.encode(text).ids, repr(text)
    for text in ("x<|end|>y", "<|end|><|end|>", " <|end|> 12"):
        [row] = run_json("tokenize", tmp_path, "--special", stdin=text + "\n")
        assert row["tokens"] == tokenizer.encode(text).ids
        [back] = run_json("tokenize", tmp_path, "--decode", "--special", stdin=json.dumps(row["tokens"]) + "\n")
        assert back["text"] == text


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_byte_level_tokens_of_many_scripts(kind, tmp_path):
    tokenizer = train_tokenizer(kind, tmp_path)
    save_model(tmp_path)
    lines = list(many_texts())
    got = run("tokenize", tmp_path, stdin="\n".join(lines) + "\n").stdout.split("\n")[:-1]
    assert [json.loads(line)["tokens"] for line in got] == [encoding.ids for encoding in tokenizer.encode_batch(lines)]


@pytest.mark.parametrize(
    "seed,options",
    [
        (0, {}),
        (1, dict(tie_word_embeddings=True)),  # in shards
        (2, dict(num_key_value_heads=4, rope_theta=5e5)),
        (3, dict(num_attention_heads=3, num_key_value_heads=1, head_dim=20, hidden_size=48, rms_norm_eps=1e-3)),
        (4, dict(dtype=torch.bfloat16)),
    ],
)
def test_log_probabilities_are_those_of_transformers(seed, options, tmp_path):
    save_model(tmp_path, seed, **options)
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(0, 500, (1, 200), generator=torch.Generator().manual_seed(seed))
    line = json.dumps({"tokens": ids[0].tolist()})
    [scored] = run_json("score", tmp_path, "--weights", "f32", "--input", "-", stdin=line)
    with torch.no_grad():
        expected = torch.log_softmax(model(ids).logits[0].double(), -1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
    assert (torch.tensor(scored["logprobs"][1:]) - expected).abs().max() < 1e-3


def test_generated_text_is_that_of_transformers(plain):
    folder, tokenizer, model = plain
    for prompt in ("Once upon a time", "日本"):
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        expected = model.generate(ids, max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0)[0]
        [got] = run_json("generate", folder, "--json", "--weights", "f32", "--ignore-eos", "--prompt", prompt,
                         "--max-tokens", 40)  # fmt: skip
        assert got["tokens"] == expected[ids.shape[1] :].tolist()


# --- damaged and hostile directories ----------------------------------------------------------------------------------


NORM = "model.norm.weight"
HOSTILE_HEADERS = {
    "offsets beyond the file": lambda h: h[NORM].update(data_offsets=[0, 2**40]),
    "negative offsets": lambda h: h[NORM].update(data_offsets=[-8, 248]),
    "offsets the wrong way round": lambda h: h[NORM].update(data_offsets=[256, 0]),
    "an overlap": lambda h: h[NORM].update(data_offsets=h["model.layers.0.input_layernorm.weight"]["data_offsets"]),
    "a shape that does not fit": lambda h: h[NORM].update(shape=[65]),
    "a shape that overflows": lambda h: h[NORM].update(shape=[2**33, 2**33]),
    "a negative shape": lambda h: h[NORM].update(shape=[-64]),
    "an unknown type": lambda h: h[NORM].update(dtype="F128"),
    "a type of another kind": lambda h: h[NORM].update(dtype=7),
    "offsets of another kind": lambda h: h[NORM].update(data_offsets="0"),
    "no offsets": lambda h: h[NORM].pop("data_offsets"),
    "a missing tensor": lambda h: h.pop(NORM),
    "a tensor that is a list": lambda h: h.update({NORM: []}),
}


@pytest.mark.parametrize("fault", HOSTILE_HEADERS)
def test_hostile_safetensors(fault, plain, tmp_path):
    path = copy_of(plain[0], tmp_path) / "model.safetensors"
    header, data = header_of(path)
    HOSTILE_HEADERS[fault](header)
    write_tensors(path, header, data)
    error_line("generate", path.parent, "--prompt", "x", "--json", code=1)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 5000, -1])
def test_truncated_safetensors(size, plain, tmp_path):
    path = copy_of(plain[0], tmp_path) / "model.safetensors"
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    assert "model.safetensors" in error_line("generate", path.parent, "--prompt", "x", "--json", code=1)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 0, 3])
def test_hostile_header_length(length, plain, tmp_path):
    path = copy_of(plain[0], tmp_path) / "model.safetensors"
    header, data = header_of(path)
    write_tensors(path, header, data, length)
    error_line("inspect", path.parent, code=1)


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":1}'])
def test_malformed_header(header, plain, tmp_path):
    path = copy_of(plain[0], tmp_path) / "model.safetensors"
    write_tensors(path, header, b"")
    error_line("inspect", path.parent, code=1)


HOSTILE_CONFIGS = {
    "another family": (lambda c: c.update(model_type="mamba"), "mamba"),
    "no family": (lambda c: c.pop("model_type"), "model_type"),
    "no heads": (lambda c: c.update(num_attention_heads=0), "num_attention_heads"),
    "heads that do not divide": (lambda c: c.update(num_key_value_heads=3), "num_key_value_heads"),
    "a size out of range": (lambda c: c.update(hidden_size=2**50), "hidden_size"),
    "a size of another kind": (lambda c: c.update(vocab_size="many"), "vocab_size"),
    "a size that does not fit": (lambda c: c.update(intermediate_size=97), "97"),
    "another activation": (lambda c: c.update(hidden_act="mish"), "mish"),
    "biases that are not there": (lambda c: c.update(attention_bias=True), "q_proj.bias"),
    "scaled positions": (lambda c: c.update(rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}), "yarn"),
    "an odd head": (lambda c: c.update(head_dim=15), "head"),
}


@pytest.mark.parametrize("fault", HOSTILE_CONFIGS)
def test_refused_configs(fault, plain, tmp_path):
    folder = copy_of(plain[0], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change, says = HOSTILE_CONFIGS[fault]
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    assert says in error_line("generate", folder, "--prompt", "x", "--json", code=1)


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


HOSTILE_TOKENIZERS = {
    "another model": lambda t: t["model"].update(type="Unigram"),
    "another pre-tokenizer": lambda t: t.update(pre_tokenizer={"type": "Punctuation"}),
    "an id out of range": lambda t: t["model"]["vocab"].update(x=2**40),
    "a negative id": lambda t: t["model"]["vocab"].update(x=-1),
    "a merge of unknown pieces": lambda t: t["model"]["merges"].append(["qqq", "zzz"]),
    "a merge of one piece": lambda t: t["model"]["merges"].append(["q"]),
    "a model that is a list": lambda t: t.update(model=[]),
    "a vocabulary that is a number": lambda t: t["model"].update(vocab=3),
    "tokens that are a number": lambda t: t.update(added_tokens=3),
    "a token that is a number": lambda t: t.update(added_tokens=[3]),
    "a token without a text": lambda t: t.update(added_tokens=[{"id": 1, "content": 3}]),
    "a pre-tokenizer that is a number": lambda t: t.update(pre_tokenizer=3),
    "parts of another kind": lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": {"a": 1, "b": 2}}),
    "a kind that is a number": lambda t: t.update(pre_tokenizer={"type": 3}),
    "a normalizer as deep as the sea": lambda t: t.update(normalizer=deep(300), pre_tokenizer={"type": "Metaspace"}),
    "no model": lambda t: t.update(model=None),
    "a regex flag that is a text": lambda t: t.update(pre_tokenizer={"type": "ByteLevel", "use_regex": "x"}),
    "a model kind that is a number": lambda t: t["model"].update(type=3),
}


@pytest.mark.parametrize("fault", HOSTILE_TOKENIZERS)
def test_refused_tokenizers(fault, plain, tmp_path):
    folder = copy_of(plain[0], tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    HOSTILE_TOKENIZERS[fault](tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    error_line("tokenize", folder, stdin="a\n", code=1)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff", b"[" * 100_000])
def test_malformed_json(name, content, plain, tmp_path):
    folder = copy_of(plain[0], tmp_path)
    (folder / name).write_bytes(content)
    assert name in error_line("tokenize", folder, stdin="a\n", code=1)


def test_an_index_cannot_reach_out_of_its_folder(tmp_path):
    save_model(tmp_path / "a", seed=1)
    save_model(tmp_path / "b", seed=1)
    index = tmp_path / "a/model.safetensors.index.json"
    content = json.loads(index.read_text())
    first = next(iter(content["weight_map"]))
    content["weight_map"][first] = "../b/" + content["weight_map"][first]
    index.write_text(json.dumps(content))
    assert "../b/" in error_line("inspect", tmp_path / "a", code=1)
