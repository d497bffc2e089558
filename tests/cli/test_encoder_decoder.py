"""Texts of an encoder-decoder (T5) against transformers: greedy, beams; sampled and speculated against themselves."""
import json

import pytest
import torch
from conftest import error_line, run, run_json
from tiny_models import train_tokenizer
from transformers import T5Config, T5ForConditionalGeneration

T5 = dict(vocab_size=500, d_model=60, d_kv=12, d_ff=77, num_layers=2, num_heads=5, relative_attention_num_buckets=14,
          relative_attention_max_distance=40, decoder_start_token_id=0, eos_token_id=1, pad_token_id=0)  # fmt: skip
SOURCES = ["The sky is blue.", "a", "12 apples and 7 pears,\nthat is all", "ünïcödé 日本", "x " * 60] + [
    f"Sentence number {i} speaks of {word}."
    for i, word in enumerate("rivers hills birds bread music rain trains glass wolves tides lamps salt paper stars dust".split())
]


@pytest.fixture(scope="module", params=["relu", "gated-gelu"])
def t5(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = train_tokenizer("smollm", folder)
    torch.manual_seed(3)
    model = T5ForConditionalGeneration(T5Config(**T5, feed_forward_proj=request.param)).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "relative_attention_bias" in key:
                value.copy_(torch.randn_like(value))
            elif key != "shared.weight" and value.dim() == 2:
                value.mul_(1.5)  # more than the embedding, or every text would repeat one token
    # Texts end with what this model says often, so that some end by themselves.
    model.generation_config.eos_token_id = None
    texts = [model.generate(source_ids(tokenizer, s), max_new_tokens=24, num_beams=4)[0, 3:].tolist() for s in SOURCES]
    said = [token for text in texts for token in set(text) - {0}]
    model.generation_config.eos_token_id = model.config.eos_token_id = max(said, key=said.count)
    model.save_pretrained(folder)
    return folder, model, tokenizer


def source_ids(tokenizer, source):
    return torch.tensor([tokenizer.encode(source).ids])


def ended(tokens, model):
    end = model.config.eos_token_id
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.mark.slow
def test_greedy_texts_are_those_of_transformers(t5):
    folder, model, tokenizer = t5
    for source in SOURCES[:8]:
        ids = source_ids(tokenizer, source)
        expected = model.generate(ids, max_new_tokens=40, do_sample=False)[0, 1:].tolist()
        for speculate in ("off", "ngram"):
            [got] = run_json("generate", folder, "--weights", "f32", "--prompt", source, "--max-tokens", 40, "--json",
                             "--speculate", speculate)  # fmt: skip
            assert got["prompt_tokens"] == ids[0].tolist()
            assert got["tokens"] == ended(expected, model)


@pytest.mark.slow
def test_beams_are_those_of_transformers(t5):
    folder, model, tokenizer = t5
    stopped = 0
    for source in SOURCES:
        for beams, penalty in ((4, 1.0), (3, 0.0), (5, -0.5), (2, 2.0)):
            theirs = model.generate(source_ids(tokenizer, source), max_new_tokens=24, num_beams=beams, do_sample=False,
                                    length_penalty=penalty, return_dict_in_generate=True, output_scores=True)  # fmt: skip
            [got] = run_json("generate", folder, "--weights", "f32", "--prompt", source, "--max-tokens", 24, "--json",
                             "--beams", beams, "--length-penalty", penalty)  # fmt: skip
            assert got["tokens"] == ended(theirs.sequences[0, 1:].tolist(), model)
            assert got["score"] == pytest.approx(theirs.sequences_scores[0].item(), rel=1e-5, abs=1e-4)
            stopped += got["finish_reason"] == "stop"
    print("ended by themselves:", stopped)
    assert len(SOURCES) == 20 and stopped > 0


def test_speculation_changes_no_token(t5):
    folder, _, _ = t5
    for i, source in enumerate(SOURCES[:6]):
        attention = ("softmax", "augmented(group=8,taps=3)", "flash_local(group=16)")[i % 3]
        encoder = ("augmented(group=8,taps=3)", "softmax", "flash(group=16)")[i % 3]
        common = ("generate", folder, "--attention", attention, "--encoder-attention", encoder, "--prompt", source, "--max-tokens", 60, "--ignore-eos", "--json",
                  "--temperature", 0.5 * i, "--seed", i)  # fmt: skip
        [plain] = run_json(*common, "--speculate", "off")
        [drafted] = run_json(*common, "--speculate", "ngram")
        assert plain["tokens"] == drafted["tokens"]
        assert plain["stats"]["drafted"] == 0


def test_a_score_agrees_with_generate(t5):
    folder, _, tokenizer = t5
    [text] = run_json("generate", folder, "--prompt", SOURCES[0], "--max-tokens", 20, "--json", "--logprobs", 0)
    line = json.dumps({"source": SOURCES[0], "tokens": text["tokens"]})
    [score] = run_json("score", folder, "--input", "-", stdin=line)
    assert score["logprobs"] == text["logprobs"]


def test_beams_exclude_what_they_cannot_do(t5):
    folder, _, _ = t5
    for options in (("--temperature", 1), ("--stop", "x"), ("--logprobs", 1)):
        assert "--beams" in error_line("generate", folder, "--prompt", "x", "--beams", 3, *options, code=2)
    assert run("generate", folder, "--prompt", "x", "--beams", 3, "--max-tokens", 5).stdout.endswith("\n")
