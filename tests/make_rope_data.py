#!/usr/bin/env python3
"""Makes tests/data/rope.txt: what transformers computes as rotary frequencies for configurations in many spellings.

    make_rope_data.py > data/rope.txt      (needs torch and transformers; made with torch 2.15.0, transformers 5.24.0)

A line is a config.json, a tab, the factor on cos and sin, and the bit patterns of inv_freq as f32, most significant
digit first.
"""
import json
import struct

import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

FAMILIES = {
    "llama": ("LlamaForCausalLM", LlamaConfig, LlamaRotaryEmbedding),
    "mistral": ("MistralForCausalLM", MistralConfig, MistralRotaryEmbedding),
    "qwen2": ("Qwen2ForCausalLM", Qwen2Config, Qwen2RotaryEmbedding),
    "qwen3": ("Qwen3ForCausalLM", Qwen3Config, Qwen3RotaryEmbedding),
}

LLAMA31 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA32 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
QWEN_YARN = {"factor": 4.0, "original_max_position_embeddings": 32768}

# (family, head_dim, max_position_embeddings, what else the file says)
CASES = [
    ("llama", 64, 2048, {}),
    ("llama", 64, 2048, {"rope_theta": 100000, "rope_scaling": None}),
    ("mistral", 128, 32768, {"rope_theta": 1000000.0, "sliding_window": None}),
    ("qwen3", 128, 40960, {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000}}),
    ("llama", 128, 16384, {"rope_theta": 100000, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    ("llama", 80, 4096, {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}}),
    ("llama", 128, 131072, {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA31}}),
    ("llama", 64, 131072, {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA32}}),
    ("qwen2", 128, 32768, {"rope_theta": 1000000.0, "rope_scaling": {"type": "yarn", **QWEN_YARN}}),
    ("qwen3", 128, 40960, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000000, **QWEN_YARN}}),
    ("qwen3", 64, 131072, {"rope_theta": 1000000, "rope_scaling": {"rope_type": "yarn", "type": "yarn", **QWEN_YARN}}),
    ("llama", 128, 65536, {"rope_scaling": {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}}),
    ("llama", 64, 4096, {"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}),
    ("llama", 64, 8192, {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024,
                                          "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.1}}),
    ("llama", 64, 8192, {"rope_scaling": {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096,
                                          "mscale": 0.707, "mscale_all_dim": 0.9}}),
    ("llama", 64, 8192, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048,
                                          "mscale": 1.0, "truncate": False}}),
    ("llama", 96, 8192, {"rope_scaling": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 2048}}),
    ("llama", 32, 64, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}}),
    ("llama", 32, 64, {"rope_scaling": {"rope_type": "yarn", "factor": 0.5, "original_max_position_embeddings": 4096}}),
    ("mistral", 16, 64, {"rope_theta": 50.0, "rope_scaling": {"rope_type": "yarn", "factor": 2.0,
                                                              "beta_fast": 1.0, "beta_slow": 1.0}}),
]


def main():
    for family, head_dim, positions, more in CASES:
        name, config_class, rotary_class = FAMILIES[family]
        text = json.dumps({
            "architectures": [name], "model_type": family, "vocab_size": 1000, "hidden_size": 4 * head_dim,
            "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": head_dim, "max_position_embeddings": positions, "hidden_act": "silu", "rms_norm_eps": 1e-6,
            **more})
        rotary = rotary_class(config_class(**{k: v for k, v in json.loads(text).items() if k != "model_type"}))
        bits = " ".join(f"{struct.unpack('<I', struct.pack('<f', value))[0]:08x}" for value in rotary.inv_freq.tolist())
        assert rotary.inv_freq.dtype == torch.float32 and len(rotary.inv_freq) == head_dim // 2
        print(f"{text}\t{rotary.attention_scaling!r}\t{bits}")


if __name__ == "__main__":
    main()
