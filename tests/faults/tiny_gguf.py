"""A GGUF model of a few kilobytes that loads: one layer, byte-level tokens, weights of a fixed pseudo-random sequence."""
import struct

U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9
HIDDEN, INNER, HEADS, CONTEXT, ALIGNMENT = 32, 64, 4, 256, 32


def alphabet():
    """GPT-2's: every byte as a printable character."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + i) for i in range(len(hidden))]


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    packed = {U32: lambda: struct.pack("<I", value), F32: lambda: struct.pack("<f", value),
              STRING: lambda: text(value)}
    return text(key) + struct.pack("<I", kind) + packed[kind]()


def array(key, kind, values):
    items = b"".join(text(value) if kind == STRING else struct.pack("<i", value) for value in values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + items


def metadata():
    tokens = alphabet() + ["th", "he", "<|end|>"]
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "tiny"),
        entry("llama.context_length", U32, CONTEXT),
        entry("llama.embedding_length", U32, HIDDEN),
        entry("llama.feed_forward_length", U32, INNER),
        entry("llama.block_count", U32, 1),
        entry("llama.attention.head_count", U32, HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "gpt-2"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", I32, [1] * (len(tokens) - 1) + [3]),
        array("tokenizer.ggml.merges", STRING, ["t h", "h e"]),
        entry("tokenizer.ggml.eos_token_id", U32, len(tokens) - 1),
    ], len(tokens)


def shapes(vocab):
    """Innermost dimension first, as GGUF writes them."""
    yield "token_embd.weight", (HIDDEN, vocab)
    yield "output_norm.weight", (HIDDEN,)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield f"blk.0.{name}.weight", (HIDDEN, HIDDEN)
    yield "blk.0.attn_norm.weight", (HIDDEN,)
    yield "blk.0.ffn_norm.weight", (HIDDEN,)
    yield "blk.0.ffn_gate.weight", (HIDDEN, INNER)
    yield "blk.0.ffn_up.weight", (HIDDEN, INNER)
    yield "blk.0.ffn_down.weight", (INNER, HIDDEN)


def weights(count, state):
    """Numbers of [-0.5, 0.5) by a linear congruence."""
    values = []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % (1 << 31)
        values.append(state / (1 << 31) - 0.5)
    return struct.pack(f"<{count}f", *values), state


def write_tiny_gguf(path):
    entries, vocab = metadata()
    tensors, data, state = [], b"", 1
    for name, dims in shapes(vocab):
        count = dims[0] * (dims[1] if len(dims) > 1 else 1)
        tensors.append(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0, len(data)))
        values, state = weights(count, state)
        data += values
        data += bytes(-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries) + b"".join(tensors)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT) + data)
