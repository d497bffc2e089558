"""SentencePiece tokenizers (unigram: T5; BPE: LLaMA) against the tokenizers library, from both kinds of files."""
import json
import struct

import pytest
import torch
from conftest import DATA, ROOT, error_line, run, run_json
from scripts_of_the_world import texts
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaForCausalLM, T5Config, T5ForConditionalGeneration

T5 = DATA.parent / "tokenizers/t5.model"
STORIES = ROOT / "tests/data/models/stories260K"


def fields(data):
    """(number, value) of a protobuf message: what its wire format says, no more."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            size = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
            yield tag >> 3, data[at : at + size]
            at += size


def t5_of_tokenizers(metaspace_only=False):
    vocab, charsmap = [], b""
    for number, value in fields(T5.read_bytes()):
        if number == 1:
            piece = dict(fields(value))
            vocab.append((piece[1].decode(), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0))
        elif number == 3:
            charsmap = dict(fields(value))[2]
    vocab += [(f"<extra_id_{n}>", 0.0) for n in range(99, -1, -1)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2))
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.normalizer = normalizers.Precompiled(charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    if metaspace_only:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Precompiled(charsmap), normalizers.Strip(left=False, right=True),
             normalizers.Replace(pattern=__import__("tokenizers").Regex(" {2,}"), content="\u2581")])  # fmt: skip
        tokenizer.pre_tokenizer = metaspace
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"] + [f"<extra_id_{n}>" for n in range(100)])
    return tokenizer


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(1)
    T5ForConditionalGeneration(
        T5Config(vocab_size=32128, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ).save_pretrained(folder)
    return folder


def with_files(folder, tmp_path, **files):
    for file in folder.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).symlink_to(file)
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_bytes(content)
    return tmp_path


def compare(folder, reference, lines):
    stdin = "\n".join(lines) + "\n"
    got = [json.loads(line)["tokens"] for line in run("tokenize", folder, stdin=stdin).stdout.split("\n")[:-1]]
    expected = [encoding.ids for encoding in reference.encode_batch(lines)]
    assert len(got) == len(expected)
    for line, own, theirs in zip(lines, got, expected, strict=True):
        assert own == theirs, (line, [hex(ord(c)) for c in line])
    ids = "\n".join(json.dumps(tokens) for tokens in expected)
    back = [json.loads(line)["text"] for line in run("tokenize", folder, "--decode", stdin=ids).stdout.split("\n")[:-1]]
    assert back == [reference.decode(tokens) for tokens in expected]


def test_t5_from_its_model_file(t5, tmp_path):
    compare(with_files(t5, tmp_path, spiece_model=T5.read_bytes()), t5_of_tokenizers(), list(texts()))


@pytest.mark.parametrize("metaspace_only", [False, True])
def test_unigram_from_tokenizer_json(metaspace_only, t5, tmp_path):
    reference = t5_of_tokenizers(metaspace_only)
    compare(with_files(t5, tmp_path, tokenizer_json=reference.to_str().encode()), reference, list(texts()))


@pytest.mark.parametrize("metaspace", ["first", "always", "never", "first, split", None])
def test_bpe_from_tokenizer_json(metaspace, tmp_path):
    reference = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    if metaspace:
        scheme, _, split = metaspace.partition(", ")
        reference.normalizer = normalizers.Sequence([])
        reference.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=bool(split))
    if metaspace == "never":
        reference.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    compare(with_files(STORIES, tmp_path, tokenizer_json=reference.to_str().encode()), reference, list(texts()))


def test_added_tokens_are_matched_whole_and_written_out(tmp_path):
    reference = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    reference.add_tokens([AddedToken("xyz", normalized=False), AddedToken("girl", normalized=False)])
    lines = ["a xyz b", "xyz", "the girl xyzxyz", " girlxyz "]
    compare(with_files(STORIES, tmp_path, tokenizer_json=reference.to_str().encode()), reference, lines)


def test_ids_without_a_piece_stand_for_nothing(t5, tmp_path):
    folder = with_files(t5, tmp_path, spiece_model=T5.read_bytes())
    [[*words, end]] = [line["tokens"] for line in run_json("tokenize", folder, stdin="The end\n")]
    padded = json.dumps([words[0], 32100, 32127, *words[1:], end])
    [line] = run_json("tokenize", folder, "--decode", stdin=padded)
    assert line["text"] == "The end"
    assert "32128" in error_line("tokenize", folder, "--decode", stdin="[32128]\n", code=1)


def test_sentinels_of_a_prompt_are_tokens_where_asked_for(t5, tmp_path):
    folder = with_files(t5, tmp_path, spiece_model=T5.read_bytes())
    generate = ("generate", folder, "--prompt", "The <extra_id_0> end", "--max-tokens", 1, "--json")
    [plain], [special] = run_json(*generate), run_json(*generate, "--special")
    assert 32099 in special["prompt_tokens"] and 32099 not in plain["prompt_tokens"]


@pytest.mark.slow
def test_stories_goes_on_as_the_original_does():
    model = LlamaForCausalLM.from_pretrained(STORIES).eval()
    expected = model.generate(torch.tensor([[1]]), max_new_tokens=230, do_sample=False)[0, 1:].tolist()
    [got] = run_json("generate", STORIES, "--weights", "f32", "--prompt", "", "--max-tokens", 230, "--json")
    assert got["prompt_tokens"] == [1] and got["tokens"] == expected
    # The text that llama2.c's own test expects of this model.
    assert got["text"].startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
        "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" "
        "Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily "
        "was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to "
        "help her mom, so she"
    )


@pytest.mark.parametrize("fault", ["empty", "half", "tail", "charsmap", "text"])
def test_malformed_model_files(fault, t5, tmp_path):
    data = T5.read_bytes()
    at = data.index(b"nmt_nfkc")
    content = {
        "empty": b"",
        "half": data[: len(data) // 2],
        "tail": data + b"\x0a\xff\xff\xff\xff\x0f",
        "charsmap": data[:at] + data[at:].replace(b"\x00\xb4\x02\x00", b"\xff\xff\xff\x7f", 1),
        "text": b"no protobuf at all",
    }[fault]
    assert content != data
    folder = with_files(t5, tmp_path, spiece_model=content)
    line = error_line("tokenize", folder, stdin="a\n", code=1)
    assert "tokenizer" in line or "spiece.model" in line
