"""VSQ4z, W8 and the paper's VSQ4 in numpy, written from quant/vsq4z.h, quant/w8.h and quant/vsq.h alone, and the few
lines of safetensors that tests need."""
import json
import struct

import numpy as np

f32 = np.float32


# --- safetensors

DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "I8": "i1"}


def read_safetensors(path):
    """{name: array}; BF16 as f32."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + at for at in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = bf16(array) if entry["dtype"] == "BF16" else array
    return tensors


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.size * 4]}
        at += array.size * 4
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(a.astype("<f4").tobytes() for a in tensors.values()))


def bf16(bits):
    return (bits.astype(np.uint32) << 16).view(f32)


# --- VSQ4z: w = row_scale * s * (q - z)

def vectors(matrix, width):
    """[rows, n, width], zeros behind the last column."""
    rows, cols = matrix.shape
    n = -(-cols // width)
    return np.pad(matrix, ((0, 0), (0, n * width - cols))).reshape(rows, n, width)


def unpack_vsq4z(codes, scales, zeros, cols):
    """q [rows, n, 16], s [rows, n], z [rows, n] of the bytes that vsq4z.h draws; what they must not hold is refused."""
    rows, n = codes.shape[0], -(-cols // 16)
    q = np.stack([codes & 15, codes >> 4], axis=-1).reshape(rows, n, 16)
    s = np.stack([scales & 15, scales >> 4], axis=-1).reshape(rows, -1)
    z = 7 + np.unpackbits(zeros, axis=1, bitorder="little").reshape(rows, -1)
    assert (s[:, n:] == 0).all() and (z[:, n:] == 7).all(), "bits behind the last vector"
    s, z = s[:, :n], z[:, :n]
    columns = np.arange(n * 16).reshape(n, 16)
    assert (q == z[..., None])[:, columns >= cols].all(), "inputs behind the last column"
    return q.astype(np.int32), s.astype(np.int32), z.astype(np.int32)


def pack_vsq4z(q, s, z):
    rows = q.shape[0]
    q = q.reshape(rows, -1).astype(np.uint8)
    s = np.pad(s, ((0, 0), (0, s.shape[1] % 2))).astype(np.uint8)
    return (q[:, ::2] | q[:, 1::2] << 4, s[:, ::2] | s[:, 1::2] << 4,
            np.packbits((z == 8).astype(np.uint8), axis=1, bitorder="little"))


def quantize_vsq4z_max(matrix):
    """--clip max: a vector's step is the smallest that reaches both its ends, the row's scale a fifteenth of the
    largest step; scales are rounded first, then codes against them. q, s, z, row_scale."""
    v = vectors(matrix.astype(f32), 16)
    high, low = np.maximum(v.max(axis=2), 0), np.maximum(-v.min(axis=2), 0)
    with7 = np.maximum(high / f32(8), low / f32(7))
    with8 = np.maximum(high / f32(7), low / f32(8))
    step, z = np.minimum(with7, with8), np.where(with8 < with7, 8, 7)
    row_scale = step.max(axis=1) / f32(15)
    assert (row_scale > 0).all()
    s = np.rint(step / row_scale[:, None])
    s[(s < 1) & (step > 0)] = 1
    rounded = row_scale[:, None] * s
    with np.errstate(divide="ignore"):
        inverse = np.where(rounded > 0, f32(1) / rounded, f32(0))
    q = np.clip(np.rint(v * inverse[..., None]), -z[..., None], 15 - z[..., None]).astype(np.int32) + z[..., None]
    return q, s.astype(np.int32), z, row_scale


def least_errors(matrix, row_scale):
    """[rows, n]: the least squared error of each vector over every s and z under the row scales, in double."""
    v = vectors(matrix.astype(np.float64), 16)
    least = (v**2).sum(axis=2)
    for s in range(1, 16):
        step = row_scale.astype(np.float64)[:, None, None] * s
        for z in (7, 8):
            level = np.clip(np.rint(v / step), -z, 15 - z)
            least = np.minimum(least, ((v - level * step)**2).sum(axis=2))
    return least


# --- W8: w = scale * q

def quantize_w8_max(matrix):
    """int8 values, and scales as bf16 bits: the smallest bf16 from max / 127 on."""
    rows, cols = matrix.shape
    groups = vectors(matrix.astype(f32), 64)
    above = np.abs(groups).max(axis=2) / f32(127)
    bits = (above.view(np.uint32) + 0xffff >> 16).astype(np.uint16)
    scale = bf16(bits)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale > 0, f32(1) / scale, f32(0))
    values = np.clip(np.rint(groups * inverse[..., None]), -127, 127).astype(np.int8)
    return values.reshape(rows, -1)[:, :cols], bits


# --- the paper's VSQ4: w = row_scale * s * q, equations 2 to 7

def simulate_vsq4(matrix, width, scale_bits):
    rows, cols = matrix.shape
    v = vectors(matrix.astype(f32), width)
    scale = np.abs(v).max(axis=2) / f32(7)
    row_scale = scale.max(axis=1) / f32(2**scale_bits - 1)
    assert (row_scale > 0).all()
    step = row_scale[:, None] * np.minimum(np.rint(scale / row_scale[:, None]), f32(2**scale_bits - 1))
    with np.errstate(divide="ignore"):
        inverse = np.where(step > 0, f32(1) / step, f32(0))
    codes = np.clip(np.rint(v * inverse[..., None]), -7, 7)
    return (codes * step[..., None]).reshape(rows, -1)[:, :cols]
