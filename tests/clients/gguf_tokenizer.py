#!/usr/bin/env python3
"""The tokenizer of a GGUF file as a Hugging Face directory, for clients that count tokens themselves.

    gguf_tokenizer.py MODEL.gguf OUT_DIR

A user with the network names the model's repository instead (--tokenizer HuggingFaceTB/SmolLM2-135M-Instruct);
here nothing but the file is at hand. Knows the pre-tokenizer of the default model ("smollm") and no other.
test_*.py compare what it counts with what the server counts.
"""
import json
import os
import sys

from gguf import GGUFReader
from gguf.constants import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers


def field(reader, name):
    return reader.fields[name].contents()


def tokenizer_of(reader):
    if field(reader, "tokenizer.ggml.pre") != "smollm":
        sys.exit(f"tokenizer.ggml.pre is {field(reader, 'tokenizer.ggml.pre')!r}; only 'smollm' is known here")
    tokens = field(reader, "tokenizer.ggml.tokens")
    types = field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, types) if kind == TokenType.CONTROL])
    return tokenizer


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    reader, out = GGUFReader(sys.argv[1]), sys.argv[2]
    os.makedirs(out, exist_ok=True)
    tokens = field(reader, "tokenizer.ggml.tokens")
    tokenizer_of(reader).save(os.path.join(out, "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast",
              "chat_template": field(reader, "tokenizer.chat_template"),
              "model_max_length": field(reader, "llama.context_length")}
    for name in ("bos", "eos"):
        config[f"{name}_token"] = tokens[field(reader, f"tokenizer.ggml.{name}_token_id")]
    with open(os.path.join(out, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)


if __name__ == "__main__":
    main()
