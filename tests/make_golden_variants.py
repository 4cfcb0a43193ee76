#!/usr/bin/env python3
"""Makes tests/data/golden/variants.json: golden checkpoints under changed configurations, as transformers computes them.

    make_golden_variants.py GENERATED > data/golden/variants.json
                          (needs torch and transformers; made with torch 2.15.0, transformers 5.24.0)

GENERATED is the directory that make_golden_data.py filled. A variant is a base set, the members of config.json that
replace the base's (null takes one away), and prompts as in golden.json: float32, eager attention, no KV cache. A greedy
path ends before the first step whose margin is under 0.004.
"""
import json
import os
import shutil
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
VARIANTS = [
    ("mistral", "llama_tied_f32", {**MISTRAL, "sliding_window": None, "rope_theta": 100000.0, "rope_parameters": None}, 257),
    ("mistral, window of 100", "llama_tied_f32", {**MISTRAL, "sliding_window": 100}, 64),
    ("linear", "llama_tied_f32", {"rope_parameters": {"rope_type": "linear", "rope_theta": 100000.0, "factor": 4.0}}, 257),
    ("yarn", "qwen2_f16", {"rope_theta": 1000000.0, "rope_parameters": None,
                           "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}, 257),
    ("yarn with everything", "qwen3_sharded_bf16",
     {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 8.0, "beta_fast": 24.0, "beta_slow": 2.0,
                          "original_max_position_embeddings": 64, "attention_factor": 1.1, "truncate": False}}, 257),
]
STEPS, MARGIN = 32, 0.004


def logprobs(model, ids):
    return torch.log_softmax(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double(), -1)


def prompt(model, ids, banned):
    given = logprobs(model, ids)
    top = torch.topk(given[-1], 5)
    result = {"ids": ids, "logprobs": [round(float(given[i, ids[i + 1]]), 7) for i in range(len(ids) - 1)],
              "top5": {"ids": top.indices.tolist(), "logprobs": [round(float(x), 7) for x in top.values]},
              "greedy": {"ids": [], "logprobs": []}}
    path = list(ids)
    for _ in range(STEPS):
        two = torch.topk(logprobs(model, path)[-1], 2)
        if two.values[0] - two.values[1] < MARGIN or int(two.indices[0]) >= banned:
            break
        path.append(int(two.indices[0]))
        result["greedy"]["ids"].append(path[-1])
        result["greedy"]["logprobs"].append(round(float(two.values[0]), 7))
    return result


def variant(generated, name, base, changes, length):
    source = os.path.join(generated, base)
    with tempfile.TemporaryDirectory() as work:
        target = os.path.join(work, base)
        shutil.copytree(source, target)
        path = os.path.join(target, "config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        config.update(changes)
        config = {k: v for k, v in config.items() if v is not None or k == "sliding_window"}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32, attn_implementation="eager")
        print(name, type(model).__name__, model.config.rope_parameters, getattr(model.config, "sliding_window", None),
              file=sys.stderr)
        with open(os.path.join(source, "golden.json"), encoding="utf-8") as file:
            golden = json.load(file)
        ids = next(p["ids"] for p in golden["prompts"] if len(p["ids"]) == length)
        return {"name": name, "base": base, "config": changes,
                "prompts": [prompt(model, ids, golden["shape"]["tokenizer_size"])]}


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    made = [variant(sys.argv[1], *entry) for entry in VARIANTS]
    json.dump({"variants": made}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
