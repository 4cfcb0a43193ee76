#!/usr/bin/env python3
"""Makes tests/data/dequant.txt: blocks of every file type and their values by the PyPI package `gguf`.

    make_dequant_data.py > data/dequant.txt        (needs gguf and numpy; made with gguf 0.19.0, numpy 2.4.6)

A line is TYPE, the block's bytes in hexadecimal, and the bit patterns of its 32 values as f32, most significant
digit first. Scales cover random numbers, zeros of both signs, subnormals and the largest f16; no value is NaN.
"""
import gguf
import numpy as np

BLOCKS = 8
SCALES = np.array([0.0, -0.0, 6e-8, -6.09e-5, 65504.0, -65504.0, 0.0333, -1.75], dtype=np.float16)


def halves(rng):
    """32 f16 patterns: the edges of the format, then anything finite."""
    edges = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x8400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00]
    return np.array(edges + [int(x) for x in rng.integers(0, 0x7c00, 32 - len(edges))], dtype="<u2")


def blocks(kind, rng):
    name = kind.name
    for i in range(BLOCKS):
        scale = SCALES[i:i + 1].tobytes()
        minimum = SCALES[(3 * i + 2) % len(SCALES)]
        if name == "F32":
            yield rng.integers(0, 0x7f800000, 32).astype("<u4").tobytes()
        elif name == "F16":
            yield halves(rng).tobytes()
        elif name == "BF16":
            yield (rng.integers(0, 0x7f80, 32) | rng.integers(0, 2, 32) << 15).astype("<u2").tobytes()
        elif name == "Q8_0":
            yield scale + rng.integers(-128, 128, 32).astype("i1").tobytes()
        elif name == "Q4_0":
            yield scale + rng.integers(0, 256, 16).astype("u1").tobytes()
        else:
            yield scale + minimum.tobytes() + rng.integers(0, 256, 16).astype("u1").tobytes()


def main():
    rng = np.random.default_rng(7)
    for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
        kind = gguf.GGMLQuantizationType[name]
        for data in blocks(kind, rng):
            raw = np.frombuffer(data, dtype="u1")
            if name in ("F32", "F16"):  # the package wants these as numbers
                raw = raw.view("<f4" if name == "F32" else "<f2")
            values = np.ascontiguousarray(gguf.dequantize(raw, kind).astype("<f4")).view("<u4")
            assert values.size == 32 and not np.isnan(values.view("<f4")).any()
            print(name, data.hex(), " ".join(f"{v:08x}" for v in values.ravel()))


if __name__ == "__main__":
    main()
