"""Writes small tokenizers of every kind, and what the tokenizers and sentencepiece libraries make of nasty texts.

    .venv/bin/pip install sentencepiece
    .venv/bin/python tests/data/tokenizers/make_tokenizers.py

Folders hold tokenizer.json or a SentencePiece model, as a model directory does. golden.json: texts, and per folder the
ids without special tokens parsed, the ids with them parsed and added, and the texts of the latter, without and with
special tokens. Files that are there stay: no two trainings give the same ones.
"""
import json
import pathlib
import random
import re

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)  # fmt: skip

HERE = pathlib.Path(__file__).parent
CORPUS = [(HERE.parent / "cli" / name).read_text(encoding="utf-8") for name in
          ("english.txt", "german.txt", "japanese.txt", "emoji.txt")]  # fmt: skip
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXTS = [
    "", " ", "  ", "   ", "\n", "\r\n", "\r\n\r\n", "\t", " \n ", "\n\n\n", "a\n\nb", "a \n b", "a\r\nb", "a\t\tb",
    "Hello world", "Hello, world!", " hello", "hello ", "  hello  ", "hello   world", "HELLO", "ǅungla",
    "".join(map(chr, range(33, 127))), "".join(map(chr, range(32))), "\x7f\x80\x9f", "a\0b",
    "I'm you're he'll they've it's don't I'd", "I'M YOU'RE HE'LL", "l’homme", "'s", "''s", "'", "can't've",
    "1", "12", "123", "1234", "12345678", "3.14", "v1.2.3", "1,000,000", "２０２４", "½ ² ③ Ⅷ", "x1y22z333", "٣٤٥",
    "don t", "do not", "a . b ? c ! d , e", "( a )", "a - b", "...", "!!!", "--", "___", "foo_bar", "a@b.c", "#1",
    "naïve café", "cafe\u0301", "e\u0301\u0301", "\u0301", "Ångström", "A\u030angstro\u0308m", "ﬁ ﬂ ﬀ", "ẞß", "İstanbul ıI",
    "日本語", "東京都に住む", "日 本", "カタカナ ｶﾀｶﾅ", "か\u3099", "한국어", "\u1112\u1161\u11ab", "中文，标点。", "𠀀𠀁",
    "Привет мир", "Ελληνικά ς", "עברית", "العربية", "हिन्दी", "ไทย", "မြန်မာ",
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇯🇵", "☃️", "a😀b", "😀 😀", "💩\n💩",
    "\u00a0", "a\u00a0b", "\u2003x\u3000y", "a\u200bb", "a\u200db", "\ufeffa", "a\u00adb", "\u2028x\u2029y", "\u0085",
    "\u2581", "a\u2581b", " \u2581 ", "\ufffd", "a\ufffd", "\ue000", "\U0010fffd", "\u202e\u202c",
    "<s>", "</s>", "a<s>b", "<s> a </s>", "<|end|>", "<|end|><|end|>", "x<|end|>y", " <|end|> ", "<|end|", "<<|end|>>",
    "[CLS] a [SEP]", "<extra_id_0>", "a <extra_id_12> b", "[UNK]", "[MASK]s", "[PAD]", "<unk>", "a <unk>b", "<extra>", "the<extra>the", "<ext<ex <extra", "<extra><ex>", "<0x41>", "<0x0A> a",
    "the", "The the THE", "of the people", "internationalisation", "zzzzqqqq", "q", "xq xq", "a" * 60, "ab" * 40, "the" * 20,
    "###", "## a", "a##b", "e" * 101, "e" * 100, "ë" * 101,
    "\"quoted\" ‘single’ “double” «guillemets» „low“", "$ € £ ¥ + = < > | ~ ^ `", "a/b\\c", "°C µ ∞ ≠ →", "x²+y³",
    "http://example.com/?q=1&r=2#top", "f(x) = x * (y + 1);", "\tif (a) {\n\t\treturn;\n\t}\n", "- [ ] item",
]  # fmt: skip
draw = random.Random(3)
for _ in range(60):  # words of the corpus, cut and mixed with oddities
    text = draw.choice(CORPUS)
    at = draw.randrange(len(text) - 30)
    part = text[at : at + draw.randrange(1, 25)]
    odd = draw.choice(TEXTS)
    TEXTS.append(part + draw.choice(["", " ", "  ", "\n", "-"]) + odd[: draw.randrange(8)] + draw.choice(["", " "]))


def saved(tokenizer, name):
    file = HERE / name / "tokenizer.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        file.write_text(text + "\n", encoding="utf-8")
    return Tokenizer.from_file(str(file))


def template(first, last, tokenizer):
    single = [first] * bool(first) + ["$A"] + [last] * bool(last)
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last) if token]
    return processors.TemplateProcessing(single=" ".join(single), special_tokens=ids)


def byte_level(name, pre, size, ignore_merges=False, first=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>"] + ([first] if first else [])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=special,
                                                              initial_alphabet=alphabet, show_progress=False))  # fmt: skip
    state = json.loads(tokenizer.to_str())
    vocab = state["model"]["vocab"]
    if ignore_merges:  # words that no merge makes: only a look at the whole word finds them
        for word in ("zzzzqqqq", "xq", "ĠTHE", "!!!"):
            vocab[word] = len(vocab)
    state["model"]["ignore_merges"] = ignore_merges == "yes"
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<ext", "<extra>", "<ex")])
    if first:
        tokenizer.post_processor = template(first, None, tokenizer)
    return saved(tokenizer, name)


def word_piece(name, size, **options):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS[:2] + ["do not don't n't " * 9], trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=special, show_progress=False))  # fmt: skip
    tokenizer.post_processor = template("[CLS]", "[SEP]", tokenizer)
    return saved(tokenizer, name)


def unigram(name, size, normalizer, metaspace, byte_fallback=False):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = metaspace
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=metaspace.prepend_scheme, split=metaspace.split)
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(CORPUS[:2], trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False))  # fmt: skip
    state = json.loads(tokenizer.to_str())
    state["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in state["model"]["vocab"]]
    if byte_fallback:
        start = len(state["model"]["vocab"])
        state["model"]["vocab"] += [[f"<0x{b:02X}>", -9.0] for b in range(256)]
        state["model"]["byte_fallback"] = True
        state["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}  # fmt: skip
        assert start > 100
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = template(None, "</s>", tokenizer)
    return saved(tokenizer, name)


def space_bpe(name, size, normalizer, metaspace):
    """SentencePiece's BPE as a tokenizer.json, with bytes for what it does not know: LLaMA-2's."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    byte_pieces = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"] + byte_pieces,
                                  limit_alphabet=70, show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(CORPUS[:2], trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not re.match("<0x", token["content"])]
    state["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = metaspace
    strip = [decoders.Strip(content=" ", left=1)] if not (metaspace and metaspace.prepend_scheme == "never") else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()] + strip)
    tokenizer.post_processor = template("<s>", None, tokenizer)
    return saved(tokenizer, name)


def t5():
    """T5's own file as transformers reads it."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((HERE / "t5.model").read_bytes())
    vocab = [(piece.piece, piece.score) for piece in model.pieces] + [(f"<extra_id_{n}>", 0.0) for n in range(99, -1, -1)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    metaspace = Space(prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = template(None, "</s>", tokenizer)
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"] + [f"<extra_id_{n}>" for n in range(100)])
    return tokenizer


def piece_model(name, kind, size, **options):
    """SentencePiece's own file."""
    folder = HERE / name
    if (folder / "tokenizer.model").exists():
        return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    folder.mkdir(exist_ok=True)
    corpus = HERE / "corpus.txt"
    corpus.write_text("".join(CORPUS[:2]), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "tokenizer"), model_type=kind, vocab_size=size, minloglevel=2, **options
    )
    corpus.unlink()
    (folder / "tokenizer.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def without_special(tokenizer):
    state = json.loads(tokenizer.to_str())
    control = {token["content"] for token in state["added_tokens"] if token["special"]}
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["special"]]
    if state["model"]["type"] == "Unigram":  # which would find them as pieces
        vocab = state["model"]["vocab"]
        state["model"]["vocab"] = [["\U0010fff0" + p if p in control else p, score] for p, score in vocab]
    return Tokenizer.from_str(json.dumps(state))


def golden_of(tokenizer):
    """Per text: ids, ids with special tokens; then the texts of the second."""
    plain = without_special(tokenizer)
    rows = []
    for text in TEXTS:
        ids = plain.encode(text, add_special_tokens=False).ids
        special = tokenizer.encode(text, add_special_tokens=True).ids
        rows.append([ids, special, tokenizer.decode(special), tokenizer.decode(special, skip_special_tokens=False)])
    return rows


def golden_of_pieces(processor):
    rows = []
    for text in TEXTS:
        ids = [int(i) for i in processor.encode(text)]
        rows.append([ids, processor.decode(ids)])
    return rows


Space, Sequence = pre_tokenizers.Metaspace, normalizers.Sequence
llama2 = Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
spaces_once = Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(left=False, right=True)])
byte = pre_tokenizers.ByteLevel
split3 = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
                                  byte(add_prefix_space=False, use_regex=False)])  # fmt: skip
digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte(add_prefix_space=False)])
golden = {
    "gpt2": golden_of(byte_level("gpt2", byte(add_prefix_space=False), 400)),
    "smollm": golden_of(byte_level("smollm", digits, 400)),
    "llama3": golden_of(byte_level("llama3", split3, 420, "yes", first="<s>")),
    "llama3_merges": golden_of(byte_level("llama3_merges", split3, 300, "no", first="<s>")),
    "wordpiece": golden_of(word_piece("wordpiece", 300)),
    "wordpiece_cased": golden_of(word_piece("wordpiece_cased", 250, lowercase=False, strip_accents=False)),
    "wordpiece_accents": golden_of(word_piece("wordpiece_accents", 250, lowercase=True, strip_accents=False)),
    "unigram": golden_of(unigram("unigram", 300, normalizers.NFKC(), Space(prepend_scheme="always"))),
    "unigram_bytes": golden_of(unigram("unigram_bytes", 150, spaces_once, Space(prepend_scheme="first"), True)),
    "llama2": golden_of(space_bpe("llama2", 450, llama2, None)),
    "space_first": golden_of(space_bpe("space_first", 400, None, Space(prepend_scheme="first", split=False))),
    "t5": golden_of(t5()),
    "space_never": golden_of(space_bpe("space_never", 400, None, Space(prepend_scheme="never", split=True))),
}
models_of_pieces = {
    "piece_bpe": golden_of_pieces(piece_model(
        "piece_bpe", "bpe", 400, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=0.99)),
    "piece_unigram": golden_of_pieces(piece_model("piece_unigram", "unigram", 200, normalization_rule_name="identity")),
    "piece_phrases": golden_of_pieces(piece_model(
        "piece_phrases", "unigram", 250, normalization_rule_name="identity", split_by_whitespace=False,
        allow_whitespace_only_pieces=True, remove_extra_whitespaces=False)),
    "piece_plain": golden_of_pieces(piece_model(
        "piece_plain", "bpe", 200, normalization_rule_name="identity", add_dummy_prefix=False)),
}  # fmt: skip
lines = [f"{json.dumps(name)}: {json.dumps(rows, ensure_ascii=False, separators=(',', ':'))}"
         for name, rows in {"texts": TEXTS, **golden}.items()]  # fmt: skip
pieces = [f"{json.dumps(name)}: {json.dumps(rows, ensure_ascii=False, separators=(',', ':'))}"
          for name, rows in models_of_pieces.items()]  # fmt: skip
text = "{" + ",\n".join(lines + ['"models": {' + ",\n".join(pieces) + "}"]) + "}\n"
(HERE / "golden.json").write_text(text, encoding="utf-8")
