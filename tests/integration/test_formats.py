"""What `espalier quantize` writes, byte for byte beside an implementation of the formats in numpy; what
`perplexity --weights vsq4:V,M` computes, beside a checkpoint that numpy rounded."""
import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import quant_numpy as formats
from espalier_server import ESPALIER

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
GENERATED = pathlib.Path(os.environ.get("ESPALIER_TEST_GENERATED", ROOT / "build" / "generated"))
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def run(*arguments):
    return subprocess.run([ESPALIER, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def is_layer_matrix(name):
    return name.endswith(tuple(f"{matrix}.weight" for matrix in MATRICES))


@pytest.fixture(params=["llama_tied_f32", "llama_ropescale_bf16"])
def golden(request):
    directory = GENERATED / request.param
    if not (directory / "model.safetensors").exists():
        pytest.skip("tests/make_golden_data.py makes the weights")
    return directory


def quantize(golden, tmp_path, *options):
    out = tmp_path / "quantized"
    result = run("quantize", "--model", golden, "--out", out, *options)
    assert result.returncode == 0, result.stderr
    return formats.read_safetensors(golden / "model.safetensors"), formats.read_safetensors(out / "model.safetensors")


def vsq4z_of(written, name, cols):
    q, s, z = formats.unpack_vsq4z(written[f"{name}.codes"], written[f"{name}.scales"], written[f"{name}.zeros"], cols)
    return q, s, z, written[f"{name}.row_scale"]


def test_vsq4z_max_is_what_numpy_makes(golden, tmp_path):
    source, written = quantize(golden, tmp_path, "--format", "vsq4z", "--clip", "max")
    names = [name for name in source if is_layer_matrix(name)]
    assert names
    for name in names:
        q, s, z, row_scale = formats.quantize_vsq4z_max(source[name])
        codes, scales, zeros = formats.pack_vsq4z(q, s, z)
        assert np.array_equal(written[f"{name}.row_scale"], row_scale), name
        assert np.array_equal(written[f"{name}.scales"], scales), name
        assert np.array_equal(written[f"{name}.zeros"], zeros), name
        assert np.array_equal(written[f"{name}.codes"], codes), name


def test_vsq4z_search_is_the_best_under_its_row_scale(golden, tmp_path):
    source, written = quantize(golden, tmp_path, "--format", "vsq4z", "--clip", "search")
    for name in filter(is_layer_matrix, source):
        matrix = source[name]
        q, s, z, row_scale = vsq4z_of(written, name, matrix.shape[1])
        values = row_scale.astype(np.float64)[:, None, None] * (s[..., None] * (q - z[..., None]))
        v = formats.vectors(matrix.astype(np.float64), 16)
        found = ((v - values)**2).sum(axis=2)
        assert (found <= formats.least_errors(matrix, row_scale) * 1.0001 + 1e-12 * (v**2).sum(axis=2)).all(), name

        q, s, z, row_scale = formats.quantize_vsq4z_max(matrix)
        nearest = row_scale.astype(np.float64)[:, None, None] * (s[..., None] * (q - z[..., None]))
        assert found.sum() < 0.95 * ((v - nearest)**2).sum(), name


@pytest.mark.parametrize("form", ["vsq4z", "w8"])
def test_w8_is_what_numpy_makes(golden, tmp_path, form):
    source, written = quantize(golden, tmp_path, "--format", form, "--clip", "max")
    names = [name for name in source if f"{name}.int8" in written]
    assert "model.embed_tokens.weight" in names
    assert form == "vsq4z" or sum(map(is_layer_matrix, names)) == sum(map(is_layer_matrix, source))
    for name in names:
        values, bits = formats.quantize_w8_max(source[name])
        assert np.array_equal(written[f"{name}.int8"], values), name
        assert np.array_equal(written[f"{name}.scale"], formats.bf16(bits)), name


def perplexity(model, weights):
    result = run("perplexity", "--model", model, "--weights", weights, "--text", ROOT / "README.md", "--context", 64,
                 "--windows", 4, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("width,scale_bits", [(16, 4), (32, 6), (64, 10)])
def test_simulated_vsq4_is_what_numpy_makes(golden, tmp_path, width, scale_bits):
    """The same figure to the last digit as of a checkpoint that numpy rounded to the paper's format."""
    rounded = tmp_path / "rounded"
    shutil.copytree(golden, rounded)
    tensors = formats.read_safetensors(golden / "model.safetensors")
    formats.write_safetensors(rounded / "model.safetensors",
                              {name: formats.simulate_vsq4(array, width, scale_bits) if is_layer_matrix(name) else array
                               for name, array in tensors.items()})
    simulated = perplexity(golden, f"vsq4:{width},{scale_bits}")
    assert simulated["perplexity"] == perplexity(rounded, "native")["perplexity"]
    assert simulated["perplexity"] != perplexity(golden, "native")["perplexity"]
    assert simulated["simulated"] is True and simulated["weights"] == f"vsq4:{width},{scale_bits}"
    assert simulated["bits_per_weight"] == 4 + scale_bits / width
    layers = sum(array.size for name, array in tensors.items() if is_layer_matrix(name))
    assert simulated["matrix_bytes"] == int(layers * (4 + scale_bits / width) / 8)


@pytest.mark.parametrize("words", ["vsq4:", "vsq4:16", "vsq4:24,4", "vsq4:16,5", "vsq4:16,4,best", "vsq4:16,4 "])
def test_other_words_are_refused(words):
    result = run("perplexity", "--model", "synthetic:tiny", "--weights", words, "--text", ROOT / "README.md")
    assert result.returncode == 2 and f"--weights {words}: allowed are vsq4:V,M" in result.stderr


@pytest.mark.parametrize("command", [("serve",), ("generate", "--prompt", "a"), ("bench",)])
def test_nothing_else_loads_what_is_simulated(command):
    result = run(*command, "--model", "synthetic:tiny", "--weights", "vsq4:16,4")
    assert result.returncode == 2
    assert "--weights vsq4:16,4" in result.stderr and "`espalier perplexity` alone" in result.stderr
