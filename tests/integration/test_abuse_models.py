"""Model files that lie, given to the real `serve`: one line that names the file, exit status 1, and no sanitizer
has anything to say. tests/model/test_gguf.c, test_safetensors.c and the fuzz targets go through the formats
themselves byte by byte; here the whole program meets one of each kind."""
import json
import os
import pathlib
import struct
import subprocess

import pytest
from espalier_server import ESPALIER

GOLDEN = pathlib.Path(os.environ["ESPALIER_ROOT"]) / "tests" / "data" / "golden"
U32, U64, STRING, ARRAY = 4, 10, 8, 9


def refused(path, *words):
    result = subprocess.run([ESPALIER, "serve", "--port", "0", "--threads", "1", "--model", str(path)],
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and result.stdout == "", result
    lines = result.stderr.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("espalier: error: "), result.stderr
    assert str(path) in lines[0]
    for word in words:
        assert word in lines[0], lines[0]


# --- GGUF, made here


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name, dims, kind=0, offset=0):
    return text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack(
        "<IQ", kind, offset)


def gguf(keys=(), tensors=(), counts=None, data=b"\0" * 4096):
    n_tensors, n_keys = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_keys) + b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


ALIGN = "general.alignment"


@pytest.mark.parametrize("data, words", [
    (b"", "empty"), (b"GGUF", "offset 4"), (b"\x7fELF" + b"\0" * 100, "GGUF"),
    (gguf(counts=(2**60, 0)), "1152921504606846976 tensors"), (gguf(counts=(0, 2**60)), "1152921504606846976 keys"),
    (gguf(counts=(2**64 - 1, 2**64 - 1)), "tensors"),
    (gguf([key(ALIGN, U32, struct.pack("<I", 0))]), ALIGN), (gguf([key(ALIGN, U32, struct.pack("<I", 3))]), ALIGN),
    (gguf([key(ALIGN, U64, struct.pack("<Q", 2**63))]), ALIGN),
    (gguf([key("a", U32, b"\0" * 4)] * 2), "twice"),
    (gguf([key("a", STRING, struct.pack("<Q", 2**64 - 8))]), "18446744073709551608 bytes"),
    (gguf([key("a", ARRAY, struct.pack("<IQ", U64, 2**61))]), "2305843009213693952 elements"),
    (gguf([key("a", ARRAY, struct.pack("<IQ", STRING, 2**61))]), "offset"),
    (gguf([key("a", 99, b"")]), "type 99"),
    (gguf([], [tensor("t", [32])] * 2), "twice"), (gguf([], [tensor("t", [2**32, 2**32])]), "64 bits"),
    (gguf([], [tensor("t", [2**63, 2])]), "9223372036854775808"), (gguf([], [tensor("t", [32, 0])]), "dimension of 0"),
    (gguf([], [tensor("t", [1, 1, 1, 1, 1])]), "5 dimensions"),
    (gguf([], [tensor("t", [32], offset=2**20)]), "end beyond"), (gguf([], [tensor("t", [32], offset=2**64 - 32)]), "t"),
    (gguf([], [tensor("t", [32], offset=4)]), "alignment"), (gguf([], [tensor("t", [2048])]), "end beyond"),
    (gguf([], [tensor("t", [32], kind=4000)]), "type 4000"), (gguf([], [tensor("t\0u", [32])]), "name"),
    (gguf(), ""),
], ids=lambda value: value if isinstance(value, str) else "")
def test_gguf_files_that_lie(tmp_path, data, words):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    refused(path, words)


def test_a_gguf_file_cut_off_anywhere(tmp_path):
    """Whole, it is refused for its missing keys; cut anywhere in its header, for its length."""
    whole = gguf([key("general.name", STRING, text("a")), key("n", ARRAY, struct.pack("<IQII", U32, 2, 1, 2))],
                 [tensor("t", [8], offset=0)], data=b"\0" * 32)
    path = tmp_path / "model.gguf"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)


# --- safetensors, beside a right config.json


@pytest.fixture
def directory(tmp_path):
    """A Hugging Face directory whose weights a test writes."""
    source = next(path.parent for path in sorted(GOLDEN.glob("*/config.json")))
    for path in source.iterdir():
        if path.is_file() and "safetensors" not in path.name and path.stat().st_size < 1 << 20:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def container(header, data=b"\0" * 64, length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape, offsets, dtype="F32"):
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize("data, words", [
    (b"", "empty"), (b"1234567", "7 bytes"), (container(b"{}", length=2**60), "1152921504606846976"),
    (container(b"{}", length=2**64 - 1), "18446744073709551615"), (container(b"[]"), "object"),
    (container(b'{"t":' + b"[" * 257 + b"]" * 257 + b"}"), "deep"), (container(b'{"\xff":{}}'), "byte 0xff"),
    (container(b'{"t":{},"t":{}}'), "duplicate"), (container(entry([2**32, 2**32], [0, 64])), "64 bits"),
    (container(entry([16], [0, 128])), "outside"), (container(entry([16], [-64, 0])), "outside"),
    (container(entry([16], [64, 0])), "outside"), (container(entry([2**62, 2], [0, 64])), "64 bits"),
    (container(entry([8], [32, 64])), "begins at 32"), (container(entry([8], [0, 32])), "end at 32"),
    (container(entry([16], [0, 64], "F99")), "F99"), (container(entry([16], [0, 2**63 - 1])), "outside"),
    (container({f"t{i}": 7 for i in range(100000)}), ""), (container(b"{}", b""), ""),
], ids=lambda value: value if isinstance(value, str) else "")
def test_safetensors_files_that_lie(directory, data, words):
    path = directory / "model.safetensors"
    path.write_bytes(data)
    refused(directory, words)


def test_a_safetensors_file_cut_off_anywhere(directory):
    whole = container(entry([16], [0, 64]))
    path = directory / "model.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(directory)
