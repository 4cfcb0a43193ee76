#!/usr/bin/env python3
"""Writes GGUF files with the PyPI package `gguf`, as llama.cpp's converter lays them out, for test_gguf_models.c.

    make_gguf_models.py GENERATED          (GENERATED: what make_golden_data.py filled; files go to GENERATED/gguf)

- each golden checkpoint as F32, and as F16 where that holds its weights, as versions 3 and 2 of the format: they must answer as the directory does;
- one golden checkpoint in every type that the package can quantize to, and a wider model of random blocks in the types
  it can only read (a mix as in Q4_K_M among them): each beside an F32 file of the values the package reads back.

manifest.json lists them. Run twice, it does nothing the second time.
"""
import hashlib
import json
import math
import os
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

SETS = {"llama_tied_f32": "smollm", "llama_ropescale_bf16": "llama-bpe", "qwen2_f16": "qwen2",
        "qwen3_sharded_bf16": "qwen2"}
QUANTIZED = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
RANDOM = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "Q4_K_M")
WIDE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1850,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}


# --- Hugging Face directories

def load_json(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return json.load(file)


def load_weights(directory):
    """{name: float32 array}; f16 and bf16 values are exact in f32."""
    weights = {}
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(directory, name), "rb") as file:
            data = file.read()
        end = 8 + int.from_bytes(data[:8], "little")
        for tensor, entry in json.loads(data[8:end]).items():
            if tensor == "__metadata__":
                continue
            begin, stop = entry["data_offsets"]
            raw = data[end + begin:end + stop]
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
            else:
                values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype("<f4")
            weights[tensor] = values.reshape(entry["shape"])
    return weights


# --- what the converter writes

def permute(values, heads):
    """Rows of a head from halves (0..h/2, h/2..h) to pairs (0, h/2, 1, h/2 + 1, ...), as llama.cpp wants them."""
    rows, cols = values.shape
    return values.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def converted(weights, config):
    """{GGUF name: values}"""
    family = config["model_type"]
    arch = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}[family]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    result = {}
    for name, values in weights.items():
        if family == "llama" and name.endswith("q_proj.weight"):
            values = permute(values, config["num_attention_heads"])
        if family == "llama" and name.endswith("k_proj.weight"):
            values = permute(values, config["num_key_value_heads"])
        result[names.get_name(name, (".weight", ".bias"))] = np.ascontiguousarray(values)
    rope = config["rope_parameters"]
    if rope["rope_type"] == "llama3":
        result["rope_freqs.weight"] = llama3_factors(rope, config["head_dim"])
    return result


def llama3_factors(rope, dim):
    low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    factors = []
    for i in range(0, dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / dim)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(rope["factor"])
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def add_shape(writer, config):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    if config["model_type"] == "qwen3":
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if config["model_type"] == "llama":
        writer.add_rope_dimension_count(config["head_dim"])
        writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer, directory, pre, rows):
    tokenizer = load_json(directory, "tokenizer.json")
    settings = load_json(directory, "tokenizer_config.json")
    texts = {index: text for text, index in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, gguf.TokenType.NORMAL)
    for token in tokenizer["added_tokens"]:
        texts[token["id"]] = token["content"]
        kinds[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    ids = {text: index for index, text in texts.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([texts.get(i, f"[PAD{i}]") for i in range(rows)])
    writer.add_token_types([kinds.get(i, gguf.TokenType.UNUSED) for i in range(rows)])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    if settings.get("bos_token"):
        writer.add_bos_token_id(ids[settings["bos_token"]])
    writer.add_eos_token_id(ids[settings["eos_token"]])
    if pre == "llama-bpe":
        writer.add_add_bos_token(True)
    writer.add_chat_template(settings["chat_template"])


def write(path, config, tensors, directory, pre, version=3):
    """tensors: {name: (bytes or numbers, type)}"""
    writer = gguf.GGUFWriter(path, config["model_type"])
    writer.add_name(os.path.basename(path))
    add_shape(writer, config)
    add_tokenizer(writer, directory, pre, config["vocab_size"])
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if version != 3:  # the layout of version 2 is the same
        with open(path, "r+b") as file:
            file.seek(4)
            file.write(version.to_bytes(4, "little"))


# --- types

def plain(tensors, kind):
    """Matrices in `kind`, vectors in F32, as the converter does."""
    return {name: (gguf.quantize(values, kind) if values.ndim > 1 else values, kind if values.ndim > 1 else Type.F32)
            for name, values in tensors.items()}


def read_back(tensors):
    return {name: (gguf.dequantize(values, kind).astype(np.float32) if kind not in (Type.F32, Type.F16) else
                   values.astype(np.float32), Type.F32) for name, (values, kind) in tensors.items()}


# Where a block has its f16 scales, and the size of one that gives weights of about 1 / 16, as a row of 256 wants.
SCALES = {"Q2_K": [(80, 1 / 200), (82, 1 / 200)], "Q3_K": [(108, 1 / 640)], "Q4_K": [(0, 1 / 3000), (2, 1 / 400)],
          "Q5_K": [(0, 1 / 6000), (2, 1 / 400)], "Q6_K": [(208, 1 / 16000)], "IQ4_NL": [(0, 1 / 1000)]}


def random_blocks(shape, kind, rng):
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // weights, size), dtype=np.uint8)
    for at, scale in SCALES[kind.name]:
        values = (scale * rng.uniform(0.5, 1.5, len(blocks))).astype(np.float16)
        blocks[:, at:at + 2] = values.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(shape[0], -1)


def random_model(name, config):
    seed = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
    rng = np.random.default_rng(seed)
    hidden, inner, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    tensors = {"output_norm.weight": (np.ones(hidden, np.float32), Type.F32)}
    shapes = {"token_embd.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        for tensor, shape in (("attn_q", (queries, hidden)), ("attn_k", (keys, hidden)), ("attn_v", (keys, hidden)),
                              ("attn_output", (hidden, queries)), ("ffn_gate", (inner, hidden)),
                              ("ffn_up", (inner, hidden)), ("ffn_down", (hidden, inner))):
            shapes[f"blk.{layer}.{tensor}.weight"] = shape
        for tensor in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{tensor}.weight"] = (np.ones(hidden, np.float32), Type.F32)
    for tensor, shape in shapes.items():
        better = any(part in tensor for part in ("token_embd", "attn_v", "ffn_down"))
        kind = (Type.Q6_K if better else Type.Q4_K) if name == "Q4_K_M" else Type[name]
        tensors[tensor] = (random_blocks(shape, kind, rng), kind)
    return tensors


# --- the files

def write_pair(target, label, config, tensors, directory, pre):
    write(os.path.join(target, f"{label}.gguf"), config, tensors, directory, pre)
    write(os.path.join(target, f"{label}.f32.gguf"), config, read_back(tensors), directory, pre)
    return {"file": f"{label}.gguf", "reference": f"{label}.f32.gguf"}


def make_all(generated, target):
    files = []
    for name, pre in SETS.items():
        directory = os.path.join(generated, name)
        config = load_json(directory, "config.json")
        tensors = converted(load_weights(directory), config)
        exact = (Type.F32,) if config["dtype"] == "float32" else (Type.F32, Type.F16)
        for kind, version in ((kind, version) for kind in exact for version in (3, 2)):
            file = f"{name}.{kind.name}.v{version}.gguf"
            write(os.path.join(target, file), config, plain(tensors, kind), directory, pre, version)
            files.append({"file": file, "golden": name})
        if name == "llama_tied_f32":
            for label in QUANTIZED:
                files.append(write_pair(target, label, config, plain(tensors, Type[label]), directory, pre))
    directory = os.path.join(generated, "llama_ropescale_bf16")
    for label in RANDOM:
        files.append(write_pair(target, label, WIDE, random_model(label, WIDE), directory, "llama-bpe"))
    return files


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = os.path.join(sys.argv[1], "gguf")
    with open(__file__, "rb") as file:
        version = hashlib.sha256(file.read()).hexdigest()
    manifest = os.path.join(target, "manifest.json")
    if os.path.exists(manifest) and load_json(manifest)["made_by"] == version:
        return
    os.makedirs(target, exist_ok=True)
    files = make_all(sys.argv[1], target)
    with open(manifest + ".part", "w", encoding="utf-8") as file:
        json.dump({"made_by": version, "files": files}, file, indent=1)
    os.replace(manifest + ".part", manifest)
    print(f"{len(files)} models in {target}")


if __name__ == "__main__":
    main()
