"""`--weights vsq4z` on a model that is not quantized: made once, kept, said what it costs; safe when two start at once."""
import ctypes
import json
import os
import pathlib
import struct
import subprocess
import time

import pytest
from conftest import MODEL as DEFAULT_MODEL
from espalier_server import ESPALIER

MODEL = "synthetic:tiny"
IN_OPEN, IN_CLOSE_NOWRITE = 0x20, 0x10


class Cache:
    def __init__(self, root):
        self.root = root
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(root)}

    def command(self, *options, model=MODEL):
        return [ESPALIER, "generate", "--model", str(model), "--weights", "vsq4z", "--prompt", "Hello", "--max-tokens", "8",
                "--temperature", "0", "--json", *options]

    def generate(self, *options, model=MODEL, status=0):
        result = subprocess.run(self.command(*options, model=model), capture_output=True, text=True, timeout=300,
                                env=self.environment)
        assert result.returncode == status, result.stderr
        return result

    def entries(self):
        return sorted(path.name for path in (self.root / "espalier" / "quantized").iterdir())

    def directory(self):
        return next(path for path in (self.root / "espalier" / "quantized").iterdir() if path.is_dir())


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_is_made_once_and_says_what_it_costs(cache):
    first = cache.generate()
    assert "measuring" in first.stderr
    made = cache.directory().stat().st_mtime_ns
    second = cache.generate()
    assert "measuring" not in second.stderr and cache.directory().stat().st_mtime_ns == made
    assert json.loads(first.stdout)["text"] == json.loads(second.stdout)["text"]
    for result in (first, second):
        assert "% of perplexity" in result.stderr
        assert f"espalier quantize --model {MODEL} --out DIR --calibrate TEXTFILE" in result.stderr
    name = cache.directory().name
    assert cache.entries() == [name, name + ".json", name + ".lock"]


class Opened:
    """How often a file is opened meanwhile (inotify)."""

    def __init__(self, path):
        self.path, self.libc = path, ctypes.CDLL(None, use_errno=True)

    def __enter__(self):
        self.events = self.libc.inotify_init1(os.O_NONBLOCK)
        # IN_CLOSE_NOWRITE too: the kernel makes one of events that are alike and follow each other.
        watch = self.libc.inotify_add_watch(self.events, os.fsencode(self.path), IN_OPEN | IN_CLOSE_NOWRITE)
        assert self.events >= 0 and watch > 0
        return self

    def count(self):
        """Since the last call."""
        try:
            events = os.read(self.events, 4096)
        except BlockingIOError:
            return 0
        return sum(mask & IN_OPEN > 0 for _, mask, _, _ in struct.iter_unpack("iIII", events))

    def __exit__(self, *error):
        os.close(self.events)


def test_what_is_kept_is_read_and_verified_once(cache, tmp_path):
    """Opening verifies every checksum: 87 MB of the default model."""
    cache.generate()
    with Opened(cache.directory() / "model.safetensors") as opened:
        cache.generate()
        assert opened.count() == 1
    out = tmp_path / "quantized"
    subprocess.run([ESPALIER, "quantize", "--model", MODEL, "--out", out], check=True, capture_output=True, timeout=300)
    with Opened(out / "model.safetensors") as opened:
        cache.generate(model=out)
        assert opened.count() == 1
        assert opened.count() == 0
        for _ in range(3):
            (out / "model.safetensors").read_bytes()
        assert opened.count() == 3


def test_two_that_start_at_once_agree(cache):
    running = [subprocess.Popen(cache.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=cache.environment) for _ in range(4)]
    results = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0] * 4, results
    assert len({json.loads(out)["text"] for out, _ in results}) == 1
    assert sum("measuring" in err for _, err in results) == 1
    assert len(cache.entries()) == 3


def test_a_damaged_one_is_made_anew(cache):
    text = json.loads(cache.generate().stdout)["text"]
    weights = cache.directory() / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    again = cache.generate()
    assert "damaged and made anew" in again.stderr and "model.safetensors" in again.stderr
    assert json.loads(again.stdout)["text"] == text
    assert "made anew" not in cache.generate().stderr


def test_a_model_that_changed_has_its_own_place(cache, tmp_path):
    models = [tmp_path / "a", tmp_path / "b"]
    for model in models:
        subprocess.run([ESPALIER, "quantize", "--model", MODEL, "--format", "w8", "--out", model], check=True,
                       capture_output=True, timeout=300)
        cache.generate(model=model)
    assert len(cache.entries()) == 6


def test_a_quantized_directory_needs_no_cache(cache, tmp_path):
    out = tmp_path / "quantized"
    subprocess.run([ESPALIER, "quantize", "--model", MODEL, "--out", out], check=True, capture_output=True, timeout=300)
    assert "perplexity" not in cache.generate(model=out).stderr
    assert not cache.root.exists()


def test_no_place_for_it_is_said(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    command = Cache(tmp_path).command()
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 1 and "XDG_CACHE_HOME" in result.stderr and "espalier quantize" in result.stderr
    blocked = tmp_path / "file"
    pathlib.Path(blocked).write_text("")
    result = subprocess.run(command, capture_output=True, text=True, timeout=300,
                            env={**os.environ, "XDG_CACHE_HOME": str(blocked)})
    assert result.returncode == 1 and str(blocked) in result.stderr and result.stderr.count("\n") == 1


def test_a_kept_matrix_does_not_hide_the_others(cache, tmp_path):
    out = tmp_path / "quantized"
    subprocess.run([ESPALIER, "quantize", "--model", MODEL, "--out", out, "--keep", "*.layers.0.*"], check=True,
                   capture_output=True, timeout=300)
    cache.generate(model=out)
    assert not cache.root.exists()


def test_a_server_that_ends_while_it_makes_one_leaves_nothing(cache):
    if not DEFAULT_MODEL.exists():
        pytest.skip(f"{DEFAULT_MODEL} is not there")
    process = subprocess.Popen([ESPALIER, "serve", "--model", DEFAULT_MODEL, "--weights", "vsq4z", "--port", "0"],
                               stderr=subprocess.PIPE, text=True, env=cache.environment)
    deadline = time.monotonic() + 60
    while not list(cache.root.glob("espalier/quantized/*.partial-*/model.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    process.terminate()
    _, words = process.communicate(timeout=30)
    assert process.returncode == 0 and "espalier: interrupted; nothing was written to" in words, words
    assert [name for name in cache.entries() if not name.endswith(".lock")] == []
