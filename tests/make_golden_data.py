#!/usr/bin/env python3
"""Makes the golden checkpoints, whose weights are too large to commit.

    make_golden_data.py OUT_DIR

The weights are random numbers of numpy's default_rng, so they are drawn again here in the order in which the
originals were filled (torch's order of parameters), written as safetensors, and compared with the SHA-256 of the
originals. Everything else of a set is copied from tests/data/golden. Run twice, it does nothing the second time.
Tests look for OUT_DIR in ESPALIER_TEST_GENERATED, or in build/generated.
"""
import hashlib
import json
import os
import shutil
import struct
import sys

import numpy as np

SEED = 2278
SHA256 = {
    "llama_tied_f32/model.safetensors": "6c77ec3c587c65a338326f48373d21ba27015a7ca5d59333cd3dadfa23d6f4f7",
    "llama_ropescale_bf16/model.safetensors": "749a7b6f5aea818b755f115f48d20f892dc4c3923f01e1a95bb15a5229cb1a98",
    "qwen2_f16/model.safetensors": "016bc12e11046b2fc006130342fe05ed9df7faf6860ee6665715e09bf09cf871",
    "qwen3_sharded_bf16/model-00001-of-00003.safetensors":
        "3536317a9ea982456874e3a5dd39dcedd88d492ab6837a29c7e9c59068e855d3",
    "qwen3_sharded_bf16/model-00002-of-00003.safetensors":
        "42cf4b8e0c85a54bb5620a117d9daa03e424d481385571da38dcc860d22ec255",
    "qwen3_sharded_bf16/model-00003-of-00003.safetensors":
        "b8643a2128fe37a5daf2379591861f85f375a832098dfacae624626ed7fe1d91",
}
GAIN = {"q_proj": 1.6, "k_proj": 1.6, "v_proj": 1.5, "o_proj": 2.0,
        "gate_proj": 1.4, "up_proj": 1.4, "down_proj": 2.4}
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
TOKENS = {"qwen2_f16": 1880, "qwen3_sharded_bf16": 1940}  # rows of the embedding that are no tokens are zero


def parameters(config):
    """(name, shape) in torch's order: attention, MLP, then the two norms of each layer; an untied head is last."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    queries = config["num_attention_heads"] * head_dim
    keys = config["num_key_value_heads"] * head_dim
    biased, normed = config["model_type"] == "qwen2", config["model_type"] == "qwen3"
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{prefix}self_attn.{name}.weight", (rows, hidden)
            if biased:
                yield f"{prefix}self_attn.{name}.bias", (rows,)
        yield prefix + "self_attn.o_proj.weight", (hidden, queries)
        if normed:
            yield prefix + "self_attn.q_norm.weight", (head_dim,)
            yield prefix + "self_attn.k_norm.weight", (head_dim,)
        yield prefix + "mlp.gate_proj.weight", (inner, hidden)
        yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def scaled(name, kind, values, config, tokens):
    if name.endswith("bias"):
        return values * (0.4 if kind == "v_proj" else 0.8)
    if kind in ("embed_tokens", "lm_head"):
        sharp = kind == "lm_head" or config["tie_word_embeddings"]
        values = values * (2.7 / np.sqrt(config["hidden_size"]) if sharp else 0.7)
        values[tokens:] = 0.0
        return values
    if kind in ("q_norm", "k_norm"):
        return np.maximum(1.35 + 0.4 * values, 0.2)
    if values.ndim == 1:
        return np.maximum(1.0 + 0.2 * values, 0.2)
    return values * GAIN[kind] / np.sqrt(values.shape[1])


def encoded(values, dtype):
    """float32 numbers as the file type's bytes, rounded to nearest even."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


def draw(name, config):
    """{tensor: (shape, bytes)}"""
    seed = hashlib.sha256(repr((SEED, name, "weights")).encode()).digest()
    rng = np.random.default_rng(np.frombuffer(seed, dtype=np.uint32))
    weights = {}
    for tensor, shape in parameters(config):
        values = scaled(tensor, tensor.split(".")[-2], rng.standard_normal(shape), config,
                        TOKENS.get(name, config["vocab_size"]))
        weights[tensor] = (shape, encoded(values.astype(np.float32), DTYPES[config["dtype"]]))
    return weights


def safetensors(weights, dtype):
    """The bytes that the safetensors library writes: names in order, the header padded to 8 bytes."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    names = sorted(weights)
    for name in names:
        shape, data = weights[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(weights[name][1] for name in names)


def present(path, sha256):
    if not os.path.exists(path):
        return False
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest() == sha256


def make_file(path, sha256, weights, dtype):
    data = safetensors(weights, dtype)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"{path}: SHA-256 {found}, expected {sha256}: numpy {np.__version__} draws other numbers "
                 "(made with 2.4.6)")
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)
    print(path)


def make_set(name, source, target):
    os.makedirs(target, exist_ok=True)
    for file in os.listdir(source):
        shutil.copyfile(os.path.join(source, file), os.path.join(target, file))
    wanted = {os.path.basename(path): sha for path, sha in SHA256.items() if os.path.dirname(path) == name}
    if all(present(os.path.join(target, file), sha) for file, sha in wanted.items()):
        return
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    weights = draw(name, config)
    place = dict.fromkeys(weights, "model.safetensors")
    if len(wanted) > 1:
        with open(os.path.join(source, "model.safetensors.index.json"), encoding="utf-8") as file:
            place = json.load(file)["weight_map"]
    for file, sha in wanted.items():
        part = {tensor: weights[tensor] for tensor in weights if place[tensor] == file}
        make_file(os.path.join(target, file), sha, part, DTYPES[config["dtype"]])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "golden")
    for name in dict.fromkeys(os.path.dirname(path) for path in SHA256):
        make_set(name, os.path.join(source, name), os.path.join(sys.argv[1], name))


if __name__ == "__main__":
    main()
