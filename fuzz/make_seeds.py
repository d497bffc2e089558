"""Small sound files for the fuzz targets to begin from: make_seeds.py FOLDER writes a folder for each."""
import pathlib
import struct
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB, HIDDEN, HEADS = 264, 32, 2
random = np.random.default_rng(1)


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    made.train_from_iterator(["the then there other hello world"], trainer)
    return made


def write_gguf(path, kind, made):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(VOCAB)
    pieces = sorted(made.get_vocab(), key=made.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3] + [1] * (len(pieces) - 1))
    import json

    merges = json.loads(made.to_str())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    half = HIDDEN // HEADS
    shapes = {"token_embd": (VOCAB, HIDDEN), "output_norm": (HIDDEN,), "blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,),
              "blk.0.attn_q": (HIDDEN, HIDDEN), "blk.0.attn_k": (half, HIDDEN), "blk.0.attn_v": (half, HIDDEN),
              "blk.0.attn_output": (HIDDEN, HIDDEN), "blk.0.ffn_gate": (HIDDEN, HIDDEN), "blk.0.ffn_up": (HIDDEN, HIDDEN),
              "blk.0.ffn_down": (HIDDEN, HIDDEN)}  # fmt: skip
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(np.float32)
        if len(shape) == 2:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sentence_piece(algorithm):
    """A model file of some pieces, with the first double-array trie that maps a no-break space to a space."""

    def message(number, content):
        return bytes([number << 3 | 2, *varint(len(content))]) + content

    def varint(value):
        return [value] if value < 0x80 else [value & 0x7F | 0x80, *varint(value >> 7)]

    model = b""
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    pieces += [(p, 1) for p in ("\u2581", "H", "e", "l", "o", "\u2581H", "ll", "\u2581He", "llo", "\u2581Hello", "w", "ö")]
    for rank, (piece, kind) in enumerate(pieces):
        score = struct.pack("<f", -float(rank))
        model += message(1, message(1, piece.encode()) + b"\x15" + score + bytes([3 << 3, kind]))
    # Node 0 leads by 0xC2 and 0xA0 to a leaf whose value is offset 0 of the replacements.
    units = [0] * 1024
    units[0] = 256 << 10
    units[256 ^ 0xC2] = 512 << 10 | 0xC2
    at = 256 ^ 0xC2 ^ 512 ^ 0xA0
    units[at] = 1 << 10 | 1 << 8 | 0xA0
    units[at ^ 1] = 1 << 31
    charsmap = struct.pack("<I1024I", 4096, *units) + b" \0"
    return model + message(2, bytes([3 << 3, algorithm])) + message(3, message(2, charsmap))


folder = pathlib.Path(sys.argv[1])
for name in ("gguf", "safetensors", "tokenizer", "sentencepiece"):
    (folder / name).mkdir(parents=True, exist_ok=True)
made = tokenizer()
for kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_1", "F16"):
    write_gguf(folder / f"gguf/{kind}.gguf", gguf.GGMLQuantizationType[kind], made)
save_file({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16)}, folder / "safetensors/two")
save_file({"x.lora_a": np.ones((1, 2), np.float64)}, folder / "safetensors/metadata", metadata={"format": "pt"})
made.save(str(folder / "tokenizer/bpe.json"))
(folder / "tokenizer/text").write_text("It's 12345 wörld's\n\n  日本語 👩‍👧 <|end|>\t\r\n abc the")
for algorithm in (1, 2):
    (folder / f"sentencepiece/{algorithm}").write_bytes(sentence_piece(algorithm))
