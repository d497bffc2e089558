"""Every model family against transformers: random small models of odd sizes, logits at every position."""
import json

import pytest
import torch
from conftest import error_line, run, run_json
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

LLAMA = dict(vocab_size=131, hidden_size=60, intermediate_size=77, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=3, head_dim=12, max_position_embeddings=160, initializer_range=0.2)  # fmt: skip
GPT2 = dict(vocab_size=131, n_embd=60, n_layer=2, n_head=5, n_positions=160, n_inner=77, initializer_range=0.2)

BERT = dict(vocab_size=131, hidden_size=60, intermediate_size=77, num_hidden_layers=2, num_attention_heads=5,
            max_position_embeddings=300, type_vocab_size=3, initializer_range=0.2)  # fmt: skip

T5 = dict(vocab_size=131, d_model=60, d_kv=12, d_ff=77, num_layers=2, num_decoder_layers=3, num_heads=5,
          relative_attention_num_buckets=14, relative_attention_max_distance=40, decoder_start_token_id=0)  # fmt: skip


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

ENCODERS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**BERT)),
    "bert, untied": lambda: BertForMaskedLM(BertConfig(**BERT, tie_word_embeddings=False)),
    "bert, relu": lambda: BertForMaskedLM(BertConfig(**BERT, hidden_act="relu")),
    "bert, bare": lambda: BertModel(BertConfig(**BERT)),
    "bert, classes": lambda: BertForSequenceClassification(BertConfig(**BERT, num_labels=4)),
}
ENCODER_DECODERS = {
    "t5": lambda: T5ForConditionalGeneration(T5Config(**T5)),
    "t5, 1.1": lambda: T5ForConditionalGeneration(T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "t5, silu": lambda: T5ForConditionalGeneration(T5Config(**T5, feed_forward_proj="gated-silu")),
    "t5, 32 buckets": lambda: T5ForConditionalGeneration(
        T5Config(**T5 | dict(relative_attention_num_buckets=32, relative_attention_max_distance=128))
    ),
}


def seed_of(name):
    seed = sum(name.encode())
    print(f"seed {seed}")
    return seed


def random_model(name):
    """All parameters random: biases and norms too, which transformers starts at 0 and 1."""
    torch.manual_seed(seed_of(name))
    model = (MODELS | ENCODERS | ENCODER_DECODERS)[name]().eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() == 1:
                value.add_(torch.randn_like(value) * 0.2)
            if "relative_attention_bias" in key:
                value.copy_(torch.randn_like(value))
        if name == "t5, 1.1":
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
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


def encoder_inputs(name):
    generator = torch.Generator().manual_seed(seed_of(name))
    for n in (1, 2, 17, 300):
        yield torch.randint(0, 131, (n,), generator=generator), torch.randint(0, 3, (n,), generator=generator)


def as_lines(inputs):
    return "\n".join(json.dumps({"tokens": ids.tolist(), "token_types": types.tolist()}) for ids, types in inputs)


def padded(inputs):
    """All texts as one batch of transformers': ids, token types, mask."""
    ids = torch.nn.utils.rnn.pad_sequence([ids for ids, _ in inputs], batch_first=True)
    types = torch.nn.utils.rnn.pad_sequence([types for _, types in inputs], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(ids) for ids, _ in inputs], batch_first=True)
    return dict(input_ids=ids, token_type_ids=types, attention_mask=mask)


@pytest.mark.parametrize("name", ["bert", "bert, untied", "bert, relu"])
def test_encoder_logits_are_those_of_transformers(name, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    inputs = list(encoder_inputs(name))
    lines = run_json("score", tmp_path / "model", "--weights", "f32", "--input", "-", "--logits",
                     tmp_path / "logits.safetensors", stdin=as_lines(inputs))  # fmt: skip
    logits = load_file(tmp_path / "logits.safetensors")
    with torch.no_grad():
        expected = model(**padded(inputs)).logits
    for i, (ids, _) in enumerate(inputs):
        own = expected[i, : len(ids)]
        assert (logits[f"logits.{i}"] - own).abs().max() <= 1e-4
        assert lines[i]["argmax"] == own.argmax(-1).tolist()
        logprobs = own.log_softmax(-1)[torch.arange(len(ids)), ids]
        assert (torch.tensor(lines[i]["logprobs"]) - logprobs).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["bert", "bert, bare", "bert, classes"])
def test_encoder_states_are_those_of_transformers(name, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    inputs = list(encoder_inputs(name))
    encode = ("encode", tmp_path / "model", "--weights", "f32", "--input", "-")
    with torch.no_grad():
        expected = model.base_model(**padded(inputs))
    hidden = run_json(*encode, stdin=as_lines(inputs))
    mean = run_json(*encode, "--pool", "mean", "--normalize", "--batch", 3, stdin=as_lines(inputs))
    first = run_json(*encode, "--pool", "cls", stdin=as_lines(inputs))
    run(*encode, "--pool", "mean", "--output", tmp_path / "e.safetensors", stdin=as_lines(inputs))
    stored = load_file(tmp_path / "e.safetensors")
    for i, (ids, _) in enumerate(inputs):
        own = expected.last_hidden_state[i, : len(ids)]
        assert (torch.tensor(hidden[i]["hidden"]) - own).abs().max() <= 1e-4
        assert (torch.tensor(first[i]["embedding"]) - own[0]).abs().max() <= 1e-4
        assert (stored[f"embedding.{i}"] - own.mean(0)).abs().max() <= 1e-4
        assert (torch.tensor(mean[i]["embedding"]) - torch.nn.functional.normalize(own.mean(0), dim=0)).abs().max() <= 1e-4
    if name != "bert":
        pooled = run_json(*encode, "--pool", "pooler", stdin=as_lines(inputs))
        for got, own in zip(pooled, expected.pooler_output, strict=True):
            assert (torch.tensor(got["embedding"]) - own).abs().max() <= 1e-4
    if name == "bert, classes":
        scores = run_json("score", tmp_path / "model", "--weights", "f32", "--input", "-", stdin=as_lines(inputs))
        with torch.no_grad():
            labels = model(**padded(inputs)).logits
        for got, own in zip(scores, labels, strict=True):
            assert (torch.tensor(got["labels"]) - own).abs().max() <= 1e-4


@pytest.mark.parametrize("attention", ["linear", "relu", "hedgehog", "performer(features=20)"])
def test_an_encoder_takes_attention_with_a_bidirectional_form(attention, tmp_path):
    name = "bert, bare"
    random_model(name).save_pretrained(tmp_path)
    lines = as_lines(list(encoder_inputs(name)))
    encode = ("encode", tmp_path, "--attention", attention, "--input", "-")
    together, alone = (run_json(*encode, "--batch", size, "--threads", size % 3, stdin=lines) for size in (4, 1))
    assert together == alone
    assert all(abs(x) < 1e3 for row in together[3]["hidden"] for x in row)
    assert together != run_json("encode", tmp_path, "--input", "-", stdin=lines)


def test_what_an_encoder_cannot_do_is_said(tmp_path):
    random_model("bert, bare").save_pretrained(tmp_path / "bare")
    random_model("bert").save_pretrained(tmp_path / "words")
    bare, words = tmp_path / "bare", tmp_path / "words"
    line = '{"tokens": [1, 2]}'
    assert "encoder" in error_line("generate", words, "--prompt", "x", "--json", code=1)
    assert "encode" in error_line("score", bare, "--input", "-", stdin=line, code=1)
    assert "pooler" in error_line("encode", words, "--pool", "pooler", "--input", "-", stdin=line, code=1)
    assert "bidirectional" in error_line("score", words, "--attention", "gla", "--input", "-", stdin=line, code=1)
    assert "300" in error_line("score", words, "--input", "-", stdin=json.dumps({"tokens": [1] * 301}), code=1)
    assert "token type" in error_line("encode", words, "--input", "-", stdin='{"tokens": [1, 2], "token_types": [0]}', code=1)
    assert "[0, 3)" in error_line("encode", words, "--input", "-", stdin='{"tokens": [1], "token_types": [3]}', code=1)
    assert "at least one" in error_line("encode", words, "--input", "-", stdin='{"tokens": []}', code=1)
    error_line("encode", words, "--normalize", "--input", "-", stdin=line, code=2)


@pytest.mark.parametrize(
    "change,says",
    [
        (dict(position_embedding_type="relative_key"), "relative_key"),
        (dict(is_decoder=True), "is_decoder"),
        (dict(num_attention_heads=7), "num_attention_heads"),
        (dict(type_vocab_size=4), "token_type_embeddings"),
        (dict(hidden_act="mish"), "mish"),
    ],
)
def test_refused_bert_configs(change, says, tmp_path):
    random_model("bert").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert says in error_line("score", tmp_path, "--input", "-", stdin='{"tokens": [1]}', code=1)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_decoder_logits_are_those_of_transformers(name, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    assert ("lm_head.weight" in load_file(tmp_path / "model/model.safetensors")) == (name == "t5, 1.1")
    generator = torch.Generator().manual_seed(seed_of(name))
    pairs = [
        (torch.randint(0, 131, (a,), generator=generator), torch.randint(0, 131, (b,), generator=generator))
        for a, b in ((1, 1), (7, 2), (60, 17), (300, 200))
    ]
    lines = "\n".join(json.dumps({"source_tokens": a.tolist(), "tokens": b.tolist()}) for a, b in pairs)
    results = run_json("score", tmp_path / "model", "--weights", "f32", "--input", "-", "--logits",
                       tmp_path / "logits.safetensors", stdin=lines)  # fmt: skip
    logits = load_file(tmp_path / "logits.safetensors")
    pad = torch.nn.utils.rnn.pad_sequence
    sources = pad([a for a, _ in pairs], batch_first=True)
    mask = pad([torch.ones_like(a) for a, _ in pairs], batch_first=True)
    shifted = pad([torch.cat([torch.tensor([0]), b[:-1]]) for _, b in pairs], batch_first=True)
    with torch.no_grad():
        expected = model(input_ids=sources, attention_mask=mask, decoder_input_ids=shifted).logits
    for i, (_, tokens) in enumerate(pairs):
        own = expected[i, : len(tokens)]
        assert (logits[f"logits.{i}"] - own).abs().max() <= 1e-4
        logprobs = own.log_softmax(-1)[torch.arange(len(tokens)), tokens]
        assert (torch.tensor(results[i]["logprobs"]) - logprobs).abs().max() <= 1e-4


def test_what_an_encoder_decoder_cannot_do_is_said(tmp_path):
    random_model("t5").save_pretrained(tmp_path)
    score = ("score", tmp_path, "--input", "-")
    assert "source" in error_line(*score, stdin='{"tokens": [1, 2]}', code=1)
    assert "source" in error_line(*score, stdin='{"tokens": [1, 2], "source_tokens": []}', code=1)
    assert "131" in error_line(*score, stdin='{"tokens": [1, 2], "source_tokens": [131]}', code=1)
    assert "bias" in error_line(*score, "--attention", "gla", stdin='{"tokens": [1], "source_tokens": [1]}', code=1)
    assert "encoder-decoder" in error_line("bench", tmp_path, code=1)
    (tmp_path / "text").write_text("some words\n" * 400)
    linearize = ("linearize", tmp_path, "--attention", "linear", "--data", tmp_path / "text", "--out", tmp_path / "out")
    assert "decoder" in error_line(*linearize, code=1) or "tokenizer" in error_line(*linearize, code=1)
    assert "encoder-decoder" in error_line("generate", tmp_path, "--chat", "--prompt", "x", code=2)


@pytest.mark.parametrize(
    "change,says",
    [
        (dict(feed_forward_proj="gated-mish"), "mish"),
        (dict(relative_attention_num_buckets=2), "relative_attention_num_buckets"),
        (dict(d_kv=13), "SelfAttention.q"),
        (dict(decoder_start_token_id=131), "decoder_start_token_id"),
        (dict(num_decoder_layers=4), "decoder.block.3"),
    ],
)
def test_refused_t5_configs(change, says, tmp_path):
    random_model("t5").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert says in error_line("score", tmp_path, "--input", "-", stdin='{"tokens": [1], "source_tokens": [1]}', code=1)


def test_encoders_take_other_attentions(tmp_path):
    """A text's states do not depend on its batch mates, and one group that holds it all is one group."""
    random_model("bert, bare").save_pretrained(tmp_path / "model")
    lines = [json.dumps({"tokens": list(range(1, n))}) for n in (9, 30, 4)]

    def states(attention, lines):
        options = ("--weights", "f32", "--attention", attention, "--input", "-")
        return [line["hidden"] for line in run_json("encode", tmp_path / "model", *options, stdin="\n".join(lines))]

    plain = states("softmax", lines)
    for attention in ("augmented(group=8,taps=4)", "flash(group=16)", "gau(group=8)", "linear", "conv"):
        together = states(attention, lines)
        assert together != plain
        assert together == [states(attention, [line])[0] for line in lines]
    assert states("flash_local(group=40)", lines) == states("flash_local(group=64)", lines)
    assert "bidirectional" in error_line(
        "encode", tmp_path / "model", "--attention", "gla", "--input", "-", stdin=lines[0], code=1
    )  # fmt: skip


@pytest.mark.parametrize(
    "name,change,says",
    [
        ("llama", dict(num_hidden_layers=1), "model.layers.1."),
        ("llama, biases", dict(attention_bias=False), "self_attn.k_proj.bias"),
        ("llama, biases", dict(mlp_bias=False), "mlp.down_proj.bias"),
        ("gpt2", dict(n_layer=1), "h.1."),
        ("bert", dict(num_hidden_layers=1), "bert.encoder.layer.1."),
        ("t5", dict(num_decoder_layers=2), "decoder.block.2."),
    ],
)
def test_a_tensor_too_many_is_named(name, change, says, tmp_path):
    random_model(name).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = json.dumps({"tokens": [1, 2]} | ({"source_tokens": [1]} if name == "t5" else {}))
    message = error_line("score", tmp_path, "--input", "-", stdin=line, code=1)
    assert says in message and "model.safetensors" in message
