"""GGUF files that name their pre-tokenizer, against the same vocabulary and rules in Hugging Face's tokenizers."""
import json
import subprocess

import gguf
import numpy as np
import pytest
from shapes import ADDED, LLAMA3, PIPELINES, byte_level, rx, split, steps, train
from strings import strings
from test_against_tokenizers import COUNT, ESPALIER, convert
from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
DEFAULT = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]  # llama.cpp, src/llama-vocab.cpp
FALCON = [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]


def sequence(patterns):
    return steps(*[split(rx(pattern)) for pattern in patterns], byte_level())


# name: (rules, NFC, ignore_merges, BOS)
NAMES = {"gpt-2": (PIPELINES["gpt2"], False, False, False), "smollm": (PIPELINES["smollm"], False, False, False),
         "starcoder": (PIPELINES["smollm"], False, False, False), "llama-bpe": (PIPELINES["llama3"], False, True, True),
         "dbrx": (steps(split(rx(LLAMA3)), byte_level()), False, False, False),
         "qwen2": (PIPELINES["qwen2"], True, False, False), "tekken": (PIPELINES["tekken"], False, True, True),
         "gpt-4o": (PIPELINES["gpt-4o"], False, False, False), "deepseek-v3": (PIPELINES["deepseek-v3"], False, False, False),
         "deepseek-coder": (PIPELINES["deepseek-coder"], False, False, False), "falcon": (sequence(FALCON), False, False, False),
         "default": (sequence(DEFAULT), False, False, False), None: (sequence(DEFAULT), False, False, False)}


def write(path, tokenizer, pre, **keys):
    """A model of one layer whose only sense is its tokenizer."""
    data = json.loads(tokenizer.to_str())
    texts = {index: text for text, index in data["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, gguf.TokenType.NORMAL)
    for token in data["added_tokens"]:
        texts[token["id"]] = token["content"]
        kinds[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    count = max(texts) + 1
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(4)
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list([texts.get(i, f"[PAD{i}]") for i in range(count)])
    writer.add_token_types([kinds.get(i, gguf.TokenType.UNUSED) for i in range(count)])
    writer.add_token_merges([" ".join(pair) for pair in data["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id("<s>"))
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    for key, value in keys.items():
        getattr(writer, f"add_{key}")(value)
    shapes = {"token_embd": (count, 8), "output_norm": (8,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}"] = (8, 8)
    for name in ("attn_norm", "ffn_norm"):
        shapes[f"blk.0.{name}"] = (8,)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", NAMES)
def test_name(tmp_path, name):
    pipeline, nfc, whole, bos = NAMES[name]
    tokenizer = train(name, pipeline, nfc=nfc, added=ADDED, ignore_merges=whole)
    path = write(tmp_path / "model.gguf", tokenizer, name)
    texts = strings(COUNT, seed=name or "none")
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    found = [line["tokens"] for line in convert(path, texts, "--special", "--no-bos")]
    wrong = [(t, e, f) for t, e, f in zip(texts, expected, found, strict=True) if e != f]
    assert not wrong, f"{len(wrong)} of {len(texts)}: {wrong[0]}"
    assert convert(path, expected, "--special") == [{"text": text} for text in tokenizer.decode_batch(expected, False)]
    first = [tokenizer.token_to_id("<s>")] if bos else []
    assert convert(path, ["x"], "--special")[0]["tokens"] == first + tokenizer.encode("x").ids


@pytest.mark.parametrize("name", NAMES)
def test_what_quantize_makes_of_it(tmp_path, name):
    """The tokenizer.json of a quantized directory: the same ids in Hugging Face's tokenizers, and in ours."""
    pipeline, nfc, whole, bos = NAMES[name]
    tokenizer = train(name, pipeline, nfc=nfc, added=ADDED, ignore_merges=whole)
    path, out = write(tmp_path / "model.gguf", tokenizer, name), tmp_path / "out"
    subprocess.run([ESPALIER, "quantize", "--model", path, "--out", out], check=True, capture_output=True)
    made = Tokenizer.from_file(str(out / "tokenizer.json"))
    texts = strings(COUNT, seed=f"quantized {name}")
    for special in (False, True):
        expected = [line["tokens"] for line in convert(path, texts, "--special", *([] if special else ["--no-bos"]))]
        assert [encoding.ids for encoding in made.encode_batch(texts, add_special_tokens=special)] == expected
        assert [line["tokens"] for line in convert(out, texts, "--special", *([] if special else ["--no-bos"]))] == expected
    assert made.encode("x").ids[:1] == ([tokenizer.token_to_id("<s>")] if bos else made.encode("x", add_special_tokens=False).ids[:1])
    assert made.decode_batch(expected, skip_special_tokens=False) == tokenizer.decode_batch(expected, skip_special_tokens=False)


def test_what_the_file_says_of_bos_and_eos_wins(tmp_path):
    tokenizer = train("gguf", PIPELINES["llama3"], added=ADDED)
    path = write(tmp_path / "model.gguf", tokenizer, "llama-bpe", add_bos_token=False, add_eos_token=True)
    assert convert(path, ["x"])[0]["tokens"] == [*tokenizer.encode("x").ids, tokenizer.token_to_id("<|im_end|>")]
