"""A Llama that says what a test wants: the likeliest next token depends on the last one alone.

Attention and MLP weights are zero, embeddings are unit vectors, and the head holds for each token the one that
follows it. The tokenizer has every byte and the pieces of the script, which no text is tokenized to.
"""
import json
import struct

import numpy as np

EOS = 256
HIDDEN, HEADS, HEAD_DIM, INTERMEDIATE = 384, 4, 16, 64


def alphabet():
    """GPT-2's printable character for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in plain)
    table = {byte: chr(byte) for byte in plain}
    table.update({byte: chr(256 + i) for i, byte in enumerate(rest)})
    return table


def write_tensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            out.write(np.ascontiguousarray(values, dtype="<f4").tobytes())


def make(directory, script):
    """`script`: {a byte as a character: [pieces that follow it, then None for the end or a byte to go on as]}.
    Returns {piece: id}. What no script follows is followed by the end."""
    table = alphabet()
    vocab = {table[byte]: byte for byte in range(256)}
    vocab["<|end|>"] = EOS
    pieces = {}
    follows = {}
    for start, chain in script.items():
        at = ord(start)
        for piece in chain:
            if piece not in pieces:
                pieces[piece] = len(vocab)
                vocab["".join(table[byte] for byte in piece.encode())] = pieces[piece]
            assert at not in follows, f"{piece!r} follows what something follows already"
            follows[at] = at = pieces[piece]
    assert len(vocab) <= HIDDEN
    embedding = np.eye(len(vocab), HIDDEN, dtype=np.float32)
    head = np.zeros((len(vocab), HIDDEN), dtype=np.float32)
    for token in range(len(vocab)):
        head[follows.get(token, EOS), token] = 1
    zeros = {"self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN), "self_attn.k_proj": (HEADS * HEAD_DIM, HIDDEN),
             "self_attn.v_proj": (HEADS * HEAD_DIM, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
             "mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN),
             "mlp.down_proj": (HIDDEN, INTERMEDIATE)}
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": head,
               "model.norm.weight": np.ones(HIDDEN, np.float32)}
    for name, shape in zeros.items():
        tensors[f"model.layers.0.{name}.weight"] = np.zeros(shape, np.float32)
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.0.{name}.weight"] = np.ones(HIDDEN, np.float32)
    write_tensors(directory / "model.safetensors", tensors)
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": 1, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "head_dim": HEAD_DIM, "vocab_size": len(vocab), "hidden_act": "silu",
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "torch_dtype": "float32", "eos_token_id": EOS, "bos_token_id": None}))
    (directory / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": EOS, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": []}}))
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": None}))
    return pieces
