"""`espalier inspect`: true for every format, without weights in memory; and what does not fit is refused before it is
allocated."""
import json
import os
import pathlib
import subprocess

import pytest
from espalier_server import ESPALIER

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
GENERATED = pathlib.Path(os.environ.get("ESPALIER_TEST_GENERATED", ROOT / "build" / "generated"))
SETS = ["llama_tied_f32", "llama_ropescale_bf16", "qwen2_f16", "qwen3_sharded_bf16"]


def run(*arguments):
    return subprocess.run([ESPALIER, *arguments], capture_output=True, text=True, timeout=120)


def inspect(model):
    result = run("inspect", "--model", str(model), "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", SETS)
def test_directories(name):
    directory = GENERATED / name
    if not (directory / "config.json").exists():
        pytest.skip("tests/make_golden_data.py makes the weights")
    config = json.loads((directory / "config.json").read_text())
    shards = sorted(directory.glob("*.safetensors"))
    found = inspect(directory)
    assert found["format"] == "safetensors" and found["files"] == len(shards)
    assert found["architecture"] == config["model_type"]
    shapes = found["shapes"]
    assert (shapes["layers"], shapes["hidden"], shapes["vocab"]) == (
        config["num_hidden_layers"], config["hidden_size"], config["vocab_size"])
    assert shapes["head_dim"] == config.get("head_dim", shapes["hidden"] // shapes["heads"])
    assert shapes["tied"] == config["tie_word_embeddings"]
    assert found["rope"]["theta"] == config["rope_parameters"]["rope_theta"]
    headers = sum(8 + int.from_bytes(shard.read_bytes()[:8], "little") for shard in shards)
    assert found["bytes"] == sum(shard.stat().st_size for shard in shards) - headers
    assert found["bits_per_weight"] == {"float32": 32, "float16": 16, "bfloat16": 16}[config["dtype"]]
    assert sum(entry["weights"] for entry in found["tensors"]) == found["weights"]
    assert found["chat_template"] != "absent" and found["tokenizer"]["tokens"] <= shapes["vocab"]


def test_gguf_files():
    manifest = GENERATED / "gguf" / "manifest.json"
    if not manifest.exists():
        pytest.skip("tests/make_gguf_models.py makes the files")
    files = [entry["file"] for entry in json.loads(manifest.read_text())["files"]]
    for name in files:
        found = inspect(manifest.parent / name)
        types = {entry["type"] for entry in found["tensors"]}
        assert found["format"] == "GGUF" and found["files"] == 1 and "F32" in types, name
        label = name.split(".")[0]
        if label in SETS:
            label = name.split(".")[1]
        assert types == {"F32"} | ({"Q4_K", "Q6_K"} if label == "Q4_K_M" else {label}), name
        assert found["bytes"] <= (manifest.parent / name).stat().st_size


# Parameters as their makers count them.
@pytest.mark.parametrize("shape, weights, gib", [
    ("llama3-8b", 8.03e9, 14), ("qwen3-8b", 8.19e9, 15), ("qwen3-32b", 32.76e9, 61)])
def test_large_shapes_are_planned_without_their_memory(shape, weights, gib):
    found = inspect(f"synthetic:{shape}")
    assert abs(found["weights"] / weights - 1) < 0.002
    w8, native, vsq4z = found["memory"]["plans"]
    assert (w8["weights"], native["weights"], vsq4z["weights"]) == ("w8", "native", "vsq4z")
    assert 0.5 < vsq4z["weight_bytes"] / w8["weight_bytes"] < 0.62
    assert int(native["weight_bytes"] / 2**30) == gib and native["weight_bytes"] > 1.9 * w8["weight_bytes"]
    assert w8["kv_bytes_per_token"] == 4 * found["shapes"]["layers"] * found["shapes"]["kv_heads"] * 128


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["generate", "--prompt", "a"]])
def test_what_does_not_fit_is_refused_at_once(command):
    plan = inspect("synthetic:qwen3-32b")["memory"]["plans"][1]
    if plan["fits"]:
        pytest.skip("this machine has the memory")
    result = run(*command, "--model", "synthetic:qwen3-32b", "--weights", "native")
    assert result.returncode == 1 and result.stdout == ""
    [line] = [line for line in result.stderr.splitlines() if "error" in line]
    assert "needs 61.7 GiB of memory" in line and "GiB are available: " in line
