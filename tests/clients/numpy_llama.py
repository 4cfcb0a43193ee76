"""A Llama's log probabilities in float64 from the bytes of its files, with numpy and nothing of ours.

The whole sequence at once, no cache: slow, short and independent of the engine that it judges.
"""
import json
import math
import pathlib

import numpy as np


def read_tensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, about in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in about["data_offsets"])
        if about["dtype"] == "BF16":  # the upper half of a float32
            values = (np.frombuffer(data[begin:end], "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(data[begin:end], {"F32": "<f4", "F16": "<f2"}[about["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(about["shape"])
    return tensors


def rope_frequencies(config):
    rope = config["rope_parameters"]
    dim = config["head_dim"]
    plain = rope["rope_theta"] ** (-np.arange(0, dim, 2) / dim)
    if rope["rope_type"] == "default":
        return plain
    assert rope["rope_type"] == "llama3", rope
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = original * plain / (2 * math.pi)  # in the original context
    blend = np.clip((turns - low) / (high - low), 0, 1)  # 0: interpolate all the way, 1: leave alone
    return plain * (blend + (1 - blend) / factor)


class Llama:
    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.config = json.loads((directory / "config.json").read_text())
        self.weights = read_tensors(directory / "model.safetensors")
        self.frequencies = rope_frequencies(self.config)

    def norm(self, x, name):
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / scale * self.weights[name + ".weight"]

    def heads(self, x, name, rotate):
        """(heads, positions, head_dim), rotated where asked."""
        x = (x @ self.weights[name + ".weight"].T).reshape(len(x), -1, self.config["head_dim"]).transpose(1, 0, 2)
        if not rotate:
            return x
        angles = np.arange(x.shape[1])[:, None] * self.frequencies
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * np.cos(angles) - second * np.sin(angles),
                               second * np.cos(angles) + first * np.sin(angles)], axis=-1)

    def attention(self, x, layer):
        name = layer + "self_attn."
        q, k = self.heads(x, name + "q_proj", True), self.heads(x, name + "k_proj", True)
        v = self.heads(x, name + "v_proj", False)
        group = len(q) // len(k)
        k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out = scores / scores.sum(-1, keepdims=True) @ v
        return out.transpose(1, 0, 2).reshape(len(x), -1) @ self.weights[name + "o_proj.weight"].T

    def mlp(self, x, layer):
        gate, up, down = (self.weights[f"{layer}mlp.{part}_proj.weight"].T for part in ("gate", "up", "down"))
        gated = x @ gate
        return gated / (1 + np.exp(-gated)) * (x @ up) @ down

    def logprobs(self, ids):
        """Row i: the log probability of every token after ids[:i + 1]."""
        embedding = self.weights["model.embed_tokens.weight"]
        x = embedding[ids]
        for i in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            x = x + self.attention(self.norm(x, layer + "input_layernorm"), layer)
            x = x + self.mlp(self.norm(x, layer + "post_attention_layernorm"), layer)
        logits = self.norm(x, "model.norm") @ self.weights.get("lm_head.weight", embedding).T
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def loglikelihood(self, context, continuation):
        """(log probability of the continuation, whether greedy decoding says it)."""
        rows = self.logprobs(context + continuation)[len(context) - 1:-1]
        own = rows[np.arange(len(continuation)), continuation]
        return own.sum(), bool((rows.argmax(-1) == continuation).all())
