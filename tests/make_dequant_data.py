#!/usr/bin/env python3
"""Makes tests/data/dequant.txt: blocks of every file type and their values by the PyPI package `gguf`.

    make_dequant_data.py > data/dequant.txt        (needs gguf and numpy; made with gguf 0.19.0, numpy 2.4.6)
    make_dequant_data.py --check                   the file is what the package says today

A line is TYPE, the block's bytes in hexadecimal, and the bit patterns of its values as f32, most significant digit
first. Plain types have 32 values in a line. Scales cover random numbers, zeros of both signs, subnormals and the
largest f16; no value is NaN.
"""
import os
import sys

import gguf
import numpy as np

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL")
BLOCKS = 8
SCALES = np.array([0.0, -0.0, 6e-8, -6.09e-5, 65504.0, -65504.0, 0.0333, -1.75], dtype=np.float16)

# Where a block has its f16 scale, and its minimum or the scale of its minimums. Every other byte may be anything.
SCALE_AT = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0],
            "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def halves(rng):
    """32 f16 patterns: the edges of the format, then anything finite."""
    edges = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x8400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00,
             0xfc00]
    return np.array(edges + [int(x) for x in rng.integers(0, 0x7c00, 32 - len(edges))], dtype="<u2")


def block(name, i, rng):
    if name == "F32":
        return rng.integers(0, 0x7f800000, 32).astype("<u4").tobytes()
    if name == "F16":
        return halves(rng).tobytes()
    if name == "BF16":
        return (rng.integers(0, 0x7f80, 32) | rng.integers(0, 2, 32) << 15).astype("<u2").tobytes()
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    data = bytearray(rng.integers(0, 256, size, dtype="u1").tobytes())
    for at, scale in zip(SCALE_AT[name], (SCALES[i], SCALES[(3 * i + 2) % len(SCALES)])):
        data[at:at + 2] = scale.tobytes()
    return bytes(data)


def lines():
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        rng = np.random.default_rng([7, int(kind)])
        for i in range(BLOCKS):
            data = block(name, i, rng)
            raw = np.frombuffer(data, dtype="u1")
            if name in ("F32", "F16"):  # the package wants these as numbers
                raw = raw.view("<f4" if name == "F32" else "<f2")
            values = np.ascontiguousarray(gguf.dequantize(raw, kind).astype("<f4")).view("<u4").ravel()
            assert values.size in (32, 256) and not np.isnan(values.view("<f4")).any()
            yield f"{name} {data.hex()} {' '.join(f'{v:08x}' for v in values)}\n"


def main():
    text = "".join(lines())
    if sys.argv[1:] != ["--check"]:
        sys.stdout.write(text)
        return
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "dequant.txt")
    with open(path, encoding="ascii") as file:
        if file.read() != text:
            sys.exit(f"{path} is not what the installed gguf package says")
    print(f"{path}: {len(TYPES)} types as the gguf package dequantizes them")


if __name__ == "__main__":
    main()
