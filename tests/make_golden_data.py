#!/usr/bin/env python3
"""Makes the golden checkpoints whose weights are too large to commit.

    make_golden_data.py OUT_DIR

llama_tied_f32's weights are random numbers of numpy's default_rng, so they are drawn again here in the order in
which the original was filled (torch's order of parameters), written as safetensors, and compared with the
SHA-256 of the original. Everything else of the set is copied from tests/data/golden. Run twice, it does nothing
the second time. Tests look for OUT_DIR in ESPALIER_TEST_GENERATED.
"""
import hashlib
import json
import os
import shutil
import struct
import sys

import numpy as np

NAME = "llama_tied_f32"
SEED = 2278
SHA256 = "6c77ec3c587c65a338326f48373d21ba27015a7ca5d59333cd3dadfa23d6f4f7"
GAIN = {"q_proj": 1.6, "k_proj": 1.6, "v_proj": 1.5, "o_proj": 2.0,
        "gate_proj": 1.4, "up_proj": 1.4, "down_proj": 2.4}


def parameters(config):
    """(name, shape) in torch's order: attention, MLP, then the two norms of each layer."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, shape in (("self_attn.q_proj", (queries, hidden)), ("self_attn.k_proj", (keys, hidden)),
                            ("self_attn.v_proj", (keys, hidden)), ("self_attn.o_proj", (hidden, queries)),
                            ("mlp.gate_proj", (inner, hidden)), ("mlp.up_proj", (inner, hidden)),
                            ("mlp.down_proj", (hidden, inner)), ("input_layernorm", (hidden,)),
                            ("post_attention_layernorm", (hidden,))):
            yield f"model.layers.{layer}.{name}.weight", shape
    yield "model.norm.weight", (hidden,)


def draw(config):
    seed = hashlib.sha256(repr((SEED, NAME, "weights")).encode()).digest()
    rng = np.random.default_rng(np.frombuffer(seed, dtype=np.uint32))
    weights = {}
    for name, shape in parameters(config):
        kind = name.split(".")[-2]
        values = rng.standard_normal(shape)
        if kind == "embed_tokens":
            values = values * (2.7 / np.sqrt(config["hidden_size"]))
        elif len(shape) == 1:
            values = np.maximum(1.0 + 0.2 * values, 0.2)
        else:
            values = values * GAIN[kind] / np.sqrt(shape[1])
        weights[name] = values.astype("<f4")
    return weights


def safetensors(weights):
    """The bytes that the safetensors library writes: names in order, the header padded to 8 bytes."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    names = sorted(weights)
    for name in names:
        size = weights[name].nbytes
        header[name] = {"dtype": "F32", "shape": list(weights[name].shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(weights[name].tobytes() for name in names)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "golden", NAME)
    target = os.path.join(sys.argv[1], NAME)
    os.makedirs(target, exist_ok=True)
    for name in os.listdir(source):
        shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
    path = os.path.join(target, "model.safetensors")
    if os.path.exists(path):
        with open(path, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() == SHA256:
                return
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        data = safetensors(draw(json.load(file)))
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"{NAME}: SHA-256 {found}, expected {SHA256}: numpy {np.__version__} draws other numbers "
                 "(made with 2.4.6)")
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)
    print(path)


if __name__ == "__main__":
    main()
