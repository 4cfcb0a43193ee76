"""`espalier quantize` as a command: what it writes loads everywhere, is the same for any number of threads, and appears whole
or not at all."""
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest
from conftest import MODEL
from espalier_server import ESPALIER

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
GENERATED = pathlib.Path(os.environ.get("ESPALIER_TEST_GENERATED", ROOT / "build" / "generated"))
SETS = ["llama_tied_f32", "llama_ropescale_bf16", "qwen2_f16", "qwen3_sharded_bf16"]
TEXT = "The river runs past the old mill, and nobody counts the days. " * 2000


def run(*arguments, check=True, **more):
    result = subprocess.run([ESPALIER, *map(str, arguments)], capture_output=True, text=True, timeout=300, **more)
    assert not check or result.returncode == 0, result.stderr
    return result


def quantize(out, *options, model="synthetic:tiny", **more):
    return run("quantize", "--model", model, "--out", out, *options, **more)


def refused(out, *options, status=1, **more):
    result = quantize(out, *options, check=False, **more)
    assert result.returncode == status, (result.returncode, result.stderr)
    assert not result.stdout and result.stderr.startswith("espalier quantize: "), result
    return result.stderr


def inspect(model):
    return json.loads(run("inspect", "--model", model, "--json").stdout)


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def tokens(model, prompt="Hello, 123 wörld", *options):
    return json.loads(run("generate", "--model", model, "--prompt", prompt, "--max-tokens", "12", "--temperature", "0",
                          "--json", *options).stdout)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text(TEXT)
    return path


# --- what comes out

def test_a_directory_that_every_command_takes(tmp_path, text):
    out = tmp_path / "out"
    table = quantize(out).stdout
    assert "error" in table and table.count("\n") >= 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    found, source = inspect(out), inspect("synthetic:tiny")
    assert found["shapes"] == source["shapes"] and found["tokenizer"]["tokens"] == source["tokenizer"]["tokens"]
    assert {entry["type"] for entry in found["tensors"]} == {"F32", "W8", "VSQ4z"}
    assert [plan["weights"] for plan in found["memory"]["plans"]] == ["vsq4z", "native", "w8"]
    assert found["memory"]["plans"][0]["weight_bytes"] < found["memory"]["plans"][1]["weight_bytes"] / 4
    assert found["quantization"]["options"]["format"] == "vsq4z" and source["quantization"] is None
    assert "checksums" not in found["quantization"]
    needs = [{plan["weights"]: plan["total_bytes"] for plan in each["memory"]["plans"]} for each in (found, source)]
    assert needs[0]["vsq4z"] == needs[1]["vsq4z"] < needs[0]["w8"] == needs[1]["w8"]
    run("perplexity", "--model", out, "--text", text, "--windows", "1", "--weights", "native")
    assert tokens(out, "Hi", "--weights", "native") and tokens(out, "Hi")


def test_json_is_what_quantization_json_says(tmp_path):
    printed = json.loads(quantize(tmp_path / "out", "--json").stdout)
    written = json.loads((tmp_path / "out" / "quantization.json").read_text())
    del written["checksum"]
    assert printed == written
    matrices = printed["tensors"]
    assert len(matrices) == 2 + 7 * 2 and all(0 <= entry["error"] < 0.01 for entry in matrices.values())
    assert printed["options"]["method"] == "rtn" and printed["options"]["clip"] == "search"


@pytest.mark.parametrize("options", [("--clip", "max"), ("--clip", "octav"), ("--format", "w8"), ("--keep", "*down*")],
                         ids=lambda options: "-".join(options).replace("--", "").replace("*", ""))
def test_threads_do_not_change_a_byte(tmp_path, options):
    for threads in (1, 2, 5):
        quantize(tmp_path / str(threads), *options, "--threads", threads)
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "5")


@pytest.mark.parametrize("method", ["rtn", "awq", "gptq", "awq+gptq"])
def test_threads_do_not_change_a_calibrated_byte(tmp_path, text, method):
    for threads in (1, 3):
        quantize(tmp_path / str(threads), "--method", method, "--calibrate", text, "--calibrate-windows", "8", "--threads", threads)
    assert digests(tmp_path / "1") == digests(tmp_path / "3")
    options = json.loads((tmp_path / "1" / "quantization.json").read_text())["options"]
    assert options["method"] == method and options["calibrate"]["tokens"] == 8 * 512


@pytest.mark.parametrize("isa", ["portable", "avx2"])
def test_nor_do_the_instructions(tmp_path, isa):
    quantize(tmp_path / "best")
    result = quantize(tmp_path / isa, check=False, env={**os.environ, "ESPALIER_CPU": isa})
    if "lacks" in result.stderr:
        pytest.skip(result.stderr)
    assert result.returncode == 0 and digests(tmp_path / "best") == digests(tmp_path / isa)


@pytest.mark.parametrize("name", SETS)
def test_golden_models(tmp_path, name):
    source = GENERATED / name
    if not (source / "config.json").exists():
        pytest.skip("tests/make_golden_data.py makes the weights")
    quantize(tmp_path / "out", model=source)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (source / file).read_bytes()
    golden = json.loads((source / "golden.json").read_text()) if (source / "golden.json").exists() else None
    if golden is None:
        golden = json.loads((ROOT / "tests/data/golden" / name / "golden.json").read_text())
    compare_tokens(source, tmp_path / "out", golden)


@pytest.mark.parametrize("name", SETS)
def test_golden_models_from_gguf(tmp_path, name):
    source = GENERATED / "gguf" / f"{name}.F32.v3.gguf"
    if not source.exists():
        pytest.skip("tests/make_gguf_models.py makes the files")
    quantize(tmp_path / "out", model=source)
    compare_tokens(source, tmp_path / "out", json.loads((ROOT / "tests/data/golden" / name / "golden.json").read_text()))
    # The same numbers from both files of one model: rows in the order of halves, whatever the file's.
    quantize(tmp_path / "hf", model=GENERATED / name)
    ours, theirs = ((tmp_path / side / "model.safetensors").read_bytes() for side in ("out", "hf"))
    assert ours == theirs


def compare_tokens(before, after, golden):
    lines = "".join(json.dumps(case["text"]) + "\n" for case in golden["tokenize"] if "\0" not in case["text"])
    options = ("--json-lines", "--special", "--no-bos")
    found, expected = (run("tokenize", "--model", model, *options, input=lines).stdout for model in (after, before))
    assert found == expected and found.count("\n") > 50
    ids = [json.loads(line)["tokens"] for line in found.splitlines()]
    assert ids == [case["ids"] for case in golden["tokenize"] if "\0" not in case["text"]]


def test_keep_keeps_products_together(tmp_path):
    record = json.loads(quantize(tmp_path / "out", "--keep", "*.0.self_attn.k_proj*", "--keep", "*.1.mlp.down*", "--json").stdout)
    kept = {name for name, entry in record["tensors"].items() if entry["format"] == "W8"}
    assert kept == {"model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.down_proj.weight",
                    *(f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv")}


def test_a_quantized_directory_can_be_quantized(tmp_path):
    quantize(tmp_path / "w8", "--format", "w8")
    quantize(tmp_path / "out", model=tmp_path / "w8")
    assert inspect(tmp_path / "out")["bits_per_weight"] < inspect(tmp_path / "w8")["bits_per_weight"]


def test_inspect_says_how_it_was_made(tmp_path, text):
    model, out = tmp_path / "source", tmp_path / "out"
    quantize(model, "--format", "w8")
    quantize(out, "--calibrate", text, "--keep", "*.1.mlp.down*", model=model)
    words = run("inspect", "--model", out).stdout
    record = json.loads((out / "quantization.json").read_text())
    [file] = record["source"]["files"]
    for part in ("--format vsq4z --method awq+gptq --clip search\n", "--keep *.1.mlp.down*\n",
                 f"--calibrate {text}, {record['options']['calibrate']['tokens']} tokens\n", f"from {model} (safetensors)\n",
                 f"model.safetensors, {(model / 'model.safetensors').stat().st_size} bytes, xxh3_128 {file['xxh3_128']}\n",
                 f"by {record['made_by']}, version 1 of the format; every checksum is right\n"):
        assert part in words, words
    assert re.search(r"\n  VSQ4z +\d+ in 13 tensors, ", words) and re.search(r"\n  W8 +\d+ in 3 tensors, ", words)


def test_matrices_have_one_size_everywhere(tmp_path, text):
    """The report, inspect and perplexity: the bytes of the parts in the file. What memory holds has another name."""
    out = tmp_path / "out"
    report = quantize(out, "--keep", "*.0.mlp.down*").stdout
    entries, _, _ = header(out)
    size = sum(end - start for start, end in (entry["data_offsets"] for name, entry in entries.items() if name != "__metadata__" and
                                              name.split(".")[-1] in ("codes", "scales", "zeros", "row_scale", "int8", "scale")))
    found, record = inspect(out), json.loads((out / "quantization.json").read_text())["matrices"]
    score = json.loads(run("perplexity", "--model", out, "--text", text, "--windows", "1", "--json").stdout)
    assert size == found["matrices"]["bytes"] == record["bytes"] == score["matrix_bytes"]
    assert size <= score["weight_bytes"] < 1.2 * size and size < found["bytes"]
    bits = 8 * size / found["matrices"]["weights"]
    assert found["matrices"]["bits"] == bits and score["bits_per_weight"] == pytest.approx(bits)
    words = f"{size / 1e6:.1f} MB of matrices"
    assert f"{out}: {words} (embedding included, norms not), {bits:.3f} bits a weight" in report
    printed = run("perplexity", "--model", out, "--text", text, "--windows", "1").stdout
    assert f"{words} ({score['weight_bytes'] / 1e6:.1f} MB packed in memory)" in printed
    assert f"{size / 1e6:.1f} MB, {bits:.3f} bits each" in run("inspect", "--model", out).stdout
    native = json.loads(run("perplexity", "--model", out, "--text", text, "--windows", "1", "--weights", "native", "--json").stdout)
    assert native["matrix_bytes"] == size and native["weight_bytes"] > 4 * size


@pytest.mark.parametrize("method", ["rtn", "awq", "gptq", "awq+gptq"])
def test_the_table_says_what_its_errors_are_against(tmp_path, text, method):
    out = tmp_path / "out"
    head = quantize(out, "--method", method, "--calibrate", text, "--calibrate-windows", "8").stdout.split("layer ")[0]
    assert head.startswith("relative error of rounding (squared error over squared weights)")
    assert ("awq: against the weights with its scales in their columns" in head) == ("awq" in method)
    assert ("gptq: against the weights that make up for earlier losses" in head) == ("gptq" in method)
    assert ("not the source's)" in run("inspect", "--model", out).stdout) == (method != "rtn")


# --- where the text comes from

def test_a_text_from_a_pipe(tmp_path, text):
    """Standard input, a pipe and a shell's <(...): the same weights as from the file."""
    options = ("--method", "awq")
    quantize(tmp_path / "file", *options, "--calibrate", text)
    quantize(tmp_path / "dash", *options, "--calibrate", "-", input=TEXT)
    named = tmp_path / "fifo"
    os.mkfifo(named)
    with subprocess.Popen(["cp", text, named]):
        quantize(tmp_path / "named", *options, "--calibrate", named)
    command = f"'{ESPALIER}' quantize --model synthetic:tiny --method awq --out '{tmp_path}/shell' --calibrate <(cat '{text}')"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=300)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("file", "dash", "named", "shell")}
    assert len(set(weights.values())) == 1
    records = [json.loads((tmp_path / name / "quantization.json").read_text())["options"]["calibrate"] for name in weights]
    assert [record.pop("path") for record in records][:3] == [str(text), "-", str(named)]
    assert all(record == records[0] for record in records) and records[0]["bytes"] == len(TEXT.encode())


def test_a_pipe_that_gives_no_text(tmp_path):
    out = tmp_path / "out"
    assert "--calibrate: standard input has 0 tokens in 0 bytes; needed" in refused(out, "--calibrate", "-", input="")
    assert "standard input is no UTF-8 text: byte 2 is 0x00" in refused(out, "--calibrate", "-", input="ab\0")
    assert f"--calibrate: {tmp_path}: Is a directory" in refused(out, "--calibrate", tmp_path)
    assert not list(tmp_path.iterdir())


def test_perplexity_of_a_pipe(text):
    score = ("perplexity", "--model", "synthetic:tiny", "--windows", "1", "--context", "64", "--text")
    assert run(*score, "-", input=TEXT).stdout == run(*score, text).stdout
    assert "--text standard input has 0 tokens" in run(*score, "-", input="", check=False).stderr


# --- wrong usage

def test_wrong_usage(tmp_path, text):
    out = tmp_path / "out"
    assert "allowed are vsq4z, w8" in refused(out, "--format", "q4", status=2)
    assert "for study" in refused(out, "--format", "vsq4:16,4", status=2)
    assert "allowed are max, octav, search" in refused(out, "--clip", "min", status=2)
    assert "allowed are rtn, awq, gptq, awq+gptq" in refused(out, "--method", "best", status=2)
    assert "needs a text: --calibrate" in refused(out, "--method", "awq", status=2)
    assert "fits no matrix" in refused(out, "--keep", "*norm*", status=2)
    assert "--out is missing" in run("quantize", "--model", "synthetic:tiny", check=False).stderr
    assert "--model is missing" in run("quantize", "--out", out, check=False).stderr
    assert "No such file" in refused(out, model=tmp_path / "none.gguf")
    assert "No such file" in refused(out, "--calibrate", tmp_path / "none.txt")
    assert "does not exist" in refused(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_too_little_text_says_how_much_is_needed(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text(TEXT[:2000])
    words = refused(tmp_path / "out", "--calibrate", short)
    assert "short.txt has " in words and "needed for this model are 4096" in words and "bytes of such text" in words
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


def test_help_shows_an_example_first():
    assert run("quantize", "--help").stdout.startswith("Example:\n  espalier quantize --model ")


# --- what is there is not lost

def test_a_directory_that_is_there(tmp_path):
    out = tmp_path / "out"
    quantize(out)
    before = digests(out)
    assert "is there and not empty" in refused(out, "--format", "w8")
    assert digests(out) == before
    quantize(out, "--format", "w8", "--force")
    assert digests(out) != before
    (out / "notes.txt").write_text("mine")
    assert "holds notes.txt" in refused(out, "--force")
    assert (out / "notes.txt").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_never_takes_a_model_away(tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (source / name).write_text("x")
    assert "model without quantization.json" in refused(source, "--force")
    assert len(list(source.iterdir())) == 3


# --- what ends it

def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_a_limit_on_files_leaves_nothing(tmp_path):
    words = refused(tmp_path / "out", preexec_fn=limit_files)
    assert "File too large" in words and "model.safetensors" in words
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "none", disk], check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a file system")
    try:
        words = refused(disk / "out")
        assert "No space left on device: it needs 0." in words and "are free" in words, words
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def has_header(path):
    try:
        with open(path, "rb") as file:
            return any(file.read(8))
    except FileNotFoundError:
        return False


def started(out, *options):
    """A run that has written its first bytes."""
    model = MODEL if MODEL.exists() else pytest.skip(f"{MODEL} is not there")
    process = subprocess.Popen([ESPALIER, "quantize", "--model", model, "--out", out, *options], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    partial = out.with_name(f"{out.name}.partial-{process.pid}")
    deadline = time.monotonic() + 60
    while not has_header(partial / "model.safetensors"):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    return process, partial


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(tmp_path, number):
    process, _ = started(tmp_path / "out")
    process.send_signal(number)
    _, words = process.communicate(timeout=30)
    assert process.returncode == -number
    assert words == f"espalier: interrupted; nothing was written to {tmp_path / 'out'}\n"
    assert not list(tmp_path.iterdir())


def test_what_a_kill_leaves_loads_nowhere_and_goes_with_the_next_run(tmp_path):
    process, partial = started(tmp_path / "out")
    process.kill()
    process.wait()
    assert partial.exists()
    result = run("inspect", "--model", partial, check=False)
    assert result.returncode == 1 and "not complete" in result.stderr, result.stderr
    assert "which a run that was killed left" in quantize(tmp_path / "out").stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_at_once(tmp_path):
    """Both work beside each other; one of them gets the name, the other says so."""
    runs = [subprocess.Popen([ESPALIER, "quantize", "--model", "synthetic:tiny", "--out", tmp_path / "out", "--clip", clip],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for clip in ("max", "octav", "search")]
    ends = [(one.communicate(timeout=120)[1], one.returncode) for one in runs]
    assert [status for _, status in ends].count(0) == 1, ends
    assert all("made by somebody else" in words or "is there and not empty" in words for words, status in ends if status)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    inspect(tmp_path / "out")


# --- what was changed afterwards

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    quantize(out)
    return out


@pytest.fixture
def copy(made, tmp_path):
    return pathlib.Path(shutil.copytree(made, tmp_path / "copy"))


def broken(directory):
    result = run("inspect", "--model", directory, check=False)
    assert result.returncode == 1 and str(directory) in result.stderr, (result.returncode, result.stderr)
    return result.stderr


def header(directory):
    data = (directory / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + length]), 8 + length, data


def test_a_flipped_byte_of_each_tensor(copy):
    entries, start, data = header(copy)
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        at = start + entry["data_offsets"][0] + 1
        (copy / "model.safetensors").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
        words = broken(copy)
        assert f"tensor {name}" in words and "offset" in words, words


def test_scales_that_are_not_finite(copy):
    entries, start, data = header(copy)
    name = "model.layers.1.mlp.down_proj.weight.row_scale"
    at = start + entries[name]["data_offsets"][0] + 8
    for bits in (0x7fc00000, 0x7f800000, 0xff800000, 0xbf800000):
        (copy / "model.safetensors").write_bytes(data[:at] + bits.to_bytes(4, "little") + data[at + 4:])
        assert f"tensor {name}, row 2 (offset {at}): the scale is" in broken(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "quantization.json", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_was_cut_or_is_gone(copy, name):
    data = (copy / name).read_bytes()
    for length in (len(data) - 1, len(data) // 2, 0):
        (copy / name).write_bytes(data[:length])
        assert name in broken(copy)
    (copy / name).unlink()
    assert name in broken(copy)


def test_shapes_that_disagree(copy):
    config = json.loads((copy / "config.json").read_text())
    config["intermediate_size"] *= 2
    (copy / "config.json").write_text(json.dumps(config))
    words = broken(copy)
    assert "model.safetensors: tensor " in words and "config.json asks for" in words and "offset" in words, words


def test_a_newer_version(copy):
    text = (copy / "quantization.json").read_text()
    (copy / "quantization.json").write_text(text.replace('"version": 1', '"version": 7'))
    assert "quantization.json: version is 7; supported is 1" in broken(copy)


def test_small_files_are_covered(copy):
    text = (copy / "tokenizer_config.json").read_text()
    (copy / "tokenizer_config.json").write_text(text + " ")
    assert "tokenizer_config.json: the file, offsets 0 to" in broken(copy)
