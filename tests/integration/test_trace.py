"""`espalier trace`: what is generated is what was asked for, by a recomputation from its lines; every format converts to
the same requests; what is wrong in a file is told by its line; half a million lines in bounded memory."""
import json
import math
import os
import pathlib
import pty
import re
import signal
import subprocess
import time

import pytest
from espalier_server import ESPALIER, PATIENCE

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
SHARED = pathlib.Path(os.environ.get("ESPALIER_SHARED", ROOT / ".." / "shared")) / "data" / "traces"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def trace(*arguments, code=0, stdin=None):
    done = subprocess.run([ESPALIER, "trace", *map(str, arguments)], input=stdin, capture_output=True,
                          timeout=10 * PATIENCE)
    assert done.returncode == code, done.stderr
    return done.stdout.decode(), done.stderr.decode(errors="replace")


def lines_of(text):
    header, *requests = map(json.loads, text.splitlines())
    assert header["espalier_trace"] == 1 and header["requests"] == len(requests)
    return header, requests


def generate(*arguments):
    return lines_of(trace("generate", *arguments)[0])


def parallel(request):
    return [stage for stage in request["stages"] if isinstance(stage, list)]


def tokens(request):
    return sum(sum(stage) if isinstance(stage, list) else stage for stage in request["stages"])


def nearest_rank(values, percent):
    return sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]


# --- generate

def test_the_example_twice_is_the_same_bytes(tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path in one, two:
        out, err = trace("generate", "--preset", "W4", "--rate", "1.5", "--seed", "7", "--out", path)
        assert out == "" and "requests generated" in err
    assert one.read_bytes() == two.read_bytes()
    assert trace("generate", "--preset", "W4", "--rate", "1.5", "--seed", "7")[0].encode() == one.read_bytes()
    assert trace("generate", "--preset", "W4", "--rate", "1.5", "--seed", "8")[0].encode() != one.read_bytes()
    assert set(tmp_path.iterdir()) == {one, two}


def test_the_header_is_true():
    header, requests = generate("--preset", "W3", "--rate", "4", "--seed", "3", "--prefixes", "3:300:0.5")
    branching = [request for request in requests if parallel(request)]
    stages = [stage for request in branching for stage in parallel(request)]
    prompts = [request["prompt_tokens"] for request in requests]
    arrivals = [request["arrival_ms"] for request in requests]
    assert arrivals == sorted(arrivals) and arrivals[-1] < 600e3
    span = (arrivals[-1] - arrivals[0]) / 1000
    paths = [sum(max(stage) if isinstance(stage, list) else stage for stage in request["stages"])
             for request in requests]
    total, in_branches = sum(map(tokens, requests)), sum(map(sum, stages))
    width = sum(map(len, stages)) / len(stages)
    balance = sum(sum(stage) / len(stage) / max(stage) for stage in stages) / len(stages)
    share = in_branches / total
    seen, reused = {}, 0
    for request in requests:
        for identity, count in request.get("prefix", []):
            reused += min(count, seen.get(identity, 0))
            seen[identity] = max(count, seen.get(identity, 0))
    for name, value in {
            "duration_s": span, "rate_per_s": (len(requests) - 1) / span,
            "branching_share": len(branching) / len(requests), "stages_per_request": len(stages) / len(branching),
            "balance": balance, "token_share_in_branches": share, "degree_of_parallelism": total / sum(paths),
            "degree_by_formula": 1 / (1 - share * (1 - 1 / (width * balance))),
            "prefix_reuse": reused / sum(prompts)}.items():
        assert header[name] == pytest.approx(value, rel=1e-6), name
    assert header["width"]["mean"] == pytest.approx(width, rel=1e-6)
    assert header["prompt_tokens"]["mean"] == pytest.approx(sum(prompts) / len(prompts), rel=1e-6)
    for percent in 5, 10, 25, 50, 75, 90, 95, 99:
        # Beyond 4095 tokens a quantile may be 1/2048 too low.
        assert header["prompt_tokens"][f"p{percent}"] == pytest.approx(nearest_rank(prompts, percent), rel=5e-4)
        assert header["branch_tokens"][f"p{percent}"] == nearest_rank([t for stage in stages for t in stage], percent)


@pytest.mark.parametrize("preset, share, widths", [
    ("W1", 0.5, (2, 8)), ("W2", 0.3, (4, 16)), ("W3", 0.7, (2, 16)), ("W4", 0.5, (8, 16)), ("W5", 0.5, (2, 4)),
    ("W6", 0.5, (2, 8)), ("W7", 0.5, (2, 16)), ("W8", 0.3, (2, 8)), ("W9", 0.5, (2, 16)), ("W10", 0.1, (16, 24))])
def test_presets_are_those_of_the_study(preset, share, widths):
    header, requests = generate("--preset", preset, "--rate", "10", "--seed", "1", "--requests", "4000")
    found = [len(stage) for request in requests for stage in parallel(request)]
    assert (min(found), max(found)) == widths
    assert header["branching_share"] == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 4000))
    assert all(request["slo"] == {"ttft_ms": 2000, "tpot_ms": 50} for request in requests)
    cached = {"W6": 0.9, "W9": 0.8}.get(preset, 0)
    assert all(request.get("cached_tokens", 0) == int(request["prompt_tokens"] * cached) for request in requests)
    median = {"W6": 6120, "W8": 1469}.get(preset, 1020)
    assert header["prompt_tokens"]["p50"] == pytest.approx(median, rel=0.06)
    for request in requests:
        if parallel(request):
            *pairs, tail = request["stages"]
            assert 50 <= tail < 200 and len(pairs) in (2, 4, 6)
            assert all(20 <= lead < 80 for lead in pairs[::2])
            assert all(50 <= branch <= 400 for stage in pairs[1::2] for branch in stage)


def test_a_rate_changes_only_the_arrivals():
    _, slow = generate("--preset", "W1", "--rate", "1", "--seed", "5", "--requests", "200")
    _, fast = generate("--preset", "W1", "--rate", "8", "--seed", "5", "--requests", "200")
    for a, b in zip(slow, fast):
        assert a.pop("arrival_ms") == pytest.approx(8 * b.pop("arrival_ms"), abs=1e-3)
        assert a == b


def test_what_can_be_said_beside_a_preset(tmp_path):
    source = tmp_path / "source.csv"
    source.write_text(AZURE + "2023-11-16 18:15:46,70,7\n2023-11-16 18:15:47,80,8\n")
    header, requests = generate("--rate", "5", "--requests", "500", "--lengths", source, "--branching", "0.5",
                                "--width", "3", "--stages", "2", "--lead", "4", "--tail", "5:6",
                                "--branch-tokens", "10:0.2:8:12", "--cached", "0.5",
                                "--class", "chat:3:1s:40ms", "--class", "batch:1:none:none")
    assert header["gap_cv"] == pytest.approx(1, abs=0.15)
    assert {(request["prompt_tokens"], request["cached_tokens"]) for request in requests} == {(70, 35), (80, 40)}
    assert {tuple(request["stages"]) for request in requests if not parallel(request)} == {(7,), (8,)}
    for request in requests:
        assert (request["class"], request.get("slo")) in [("chat", {"ttft_ms": 1000, "tpot_ms": 40}), ("batch", None)]
        if parallel(request):
            a, b, c, d, e = request["stages"]
            assert a == c == 4 and e in (5, 6) and len(b) == len(d) == 3 and all(8 <= t <= 12 for t in b + d)


# --- convert and inspect

def test_formats_of_the_same_requests_convert_to_the_same(tmp_path):
    texts = {
        "azure": "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-30 23:59:59.5000000,600,7\r\n"
                 "2023-12-01 00:00:00.2500000,20,9",
        "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n9.5,GPT-4,600,7,607,\n"
                    "10,GPT-4,1,0,1,\n10.25,GPT-4,20,9,29,\n",
        "mooncake": '{"timestamp": 500, "input_length": 600, "output_length": 7}\n'
                    '{"timestamp": 1250, "input_length": 20, "output_length": 9}\n',
        "espalier": '{"arrival_ms": 0, "prompt_tokens": 600, "stages": [7]}\n'
                    '{"arrival_ms": 750, "prompt_tokens": 20, "stages": [9]}\n',
    }
    for name, text in texts.items():
        out, err = trace("convert", "--in", "-", stdin=text.encode())
        header, requests = lines_of(out)
        assert requests == [{"arrival_ms": 0, "prompt_tokens": 600, "stages": [7]},
                            {"arrival_ms": 750, "prompt_tokens": 20, "stages": [9]}], name
        source = header["generator"]["source"]
        assert source["format"] == name and source["failed"] == (name == "burstgpt")
        assert ("1 requests got no output token (they failed) and were left out" in err) == (name == "burstgpt")
        again, _ = trace("convert", "--in", "-", stdin=out.encode())
        assert again.splitlines()[1:] == out.splitlines()[1:]


def test_branches_for_a_trace_without(tmp_path):
    plain, one, two = tmp_path / "plain", tmp_path / "one", tmp_path / "two"
    trace("generate", "--rate", "10", "--requests", "1000", "--seed", "1", "--out", plain)
    for path in one, two:
        trace("convert", "--in", plain, "--branching", "0.4", "--width", "2:5", "--seed", "3", "--slo-tpot", "30ms",
              "--out", path)
    assert one.read_bytes() == two.read_bytes()
    (_, before), (header, after) = lines_of(plain.read_text()), lines_of(one.read_text())
    assert header["branching_share"] == pytest.approx(0.4, abs=0.08)
    for a, b in zip(before, after):
        assert b["slo"] == {"tpot_ms": 30} and (a["arrival_ms"], a["prompt_tokens"]) == (
            b["arrival_ms"], b["prompt_tokens"])
        assert parallel(b) or a["stages"] == b["stages"]
    assert header["generator"]["source_generator"]["command"].startswith("espalier trace generate")


def test_inspect_says_what_the_header_says(tmp_path):
    path = tmp_path / "w2.jsonl"
    shown = json.loads(trace("generate", "--preset", "W2", "--rate", "3", "--out", path, "--json")[0])
    header, _ = lines_of(path.read_text())
    found = json.loads(trace("inspect", "--in", path, "--json")[0])
    assert found == json.loads(trace("inspect", "--in", "-", "--json", stdin=path.read_bytes())[0]) | {"in": str(path)}
    del header["espalier_trace"]
    assert header.items() <= found.items() and header.items() <= shown.items()
    table, _ = trace("inspect", "--in", path)
    for words in ("requests", "prompt", "one branch", "width", "balance", "parallelism", "prefix reuse", "TTFT 2000 ms",
                  header["generator"]["command"]):
        assert words in table, table
    cut = path.read_text().splitlines(keepends=True)[:-1]
    path.write_text("".join(cut))
    assert f"the header speaks of {header['requests']} requests" in trace("inspect", "--in", path)[1]


@pytest.mark.parametrize("name, requests, prompt, output", [
    ("azure_llm_2023_conv.csv", 19366, 1154.6974, 211.12594), ("mooncake_conversation.jsonl", 12031, 12035.0613, 342.61890)])
def test_production_traces(name, requests, prompt, output):
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/data/traces/{name} is not there")
    found = json.loads(trace("inspect", "--in", SHARED / name, "--json")[0])
    assert found["requests"] == requests and found["bad_lines"] == 0
    assert found["prompt_tokens"]["mean"] == pytest.approx(prompt, rel=1e-5)
    assert found["output_tokens"]["mean"] == pytest.approx(output, rel=1e-5)


# --- what is wrong

def test_a_malformed_line():
    text = (AZURE + "2023-11-16 18:15:46,70,7\n2023-11-16 18:15:47,seven,7\n2023-11-16 18:15:48,80\n"
            "2023-11-16 18:15:49,90,9\n").encode()
    for command in "inspect", "convert":
        out, err = trace(command, "--in", "-", stdin=text, code=1)
        assert out == "" and "standard input: line 3: ContextTokens: found 'seven', expected a whole number" in err
        _, err = trace(command, "--in", "-", "--skip-bad", stdin=text)
        assert "2 of 5 lines were malformed and skipped; the first: line 3: ContextTokens: found 'seven'" in err
    found = json.loads(trace("inspect", "--in", "-", "--skip-bad", "--json", stdin=text)[0])
    assert (found["requests"], found["bad_lines"], found["lines"]) == (2, 2, 5)
    out, err = trace("inspect", "--in", "-", "--skip-bad", stdin=AZURE.encode() + b"x\n", code=1)
    assert "no line could be read; the first: line 2: found 1 fields" in err
    assert "the file is empty" in trace("inspect", "--in", "-", stdin=b"", code=1)[1]
    assert "expected the first line of a trace" in trace("inspect", "--in", "-", stdin=os.urandom(5000) + b"\n",
                                                         code=1)[1]


@pytest.mark.parametrize("line, words", [
    ('{"arrival_ms": 1e300, "prompt_tokens": 5, "stages": [3]}',
     "arrival_ms: found '1e300', expected a number from 0 to 1000000000000\n"),
    ('{"arrival_ms": 0, "prompt_tokens": 5, "stages": [3], "class": "a\\u0000b"}', "(\\u0000 is not allowed in a text at byte ")])
def test_words_are_the_format_s_own(tmp_path, line, words):
    (tmp_path / "t.jsonl").write_text(line + "\n")
    err = trace("inspect", "--in", tmp_path / "t.jsonl", "--format", "espalier", code=1)[1]
    assert words in err and "JSON_" not in err


@pytest.mark.parametrize("arguments, words", [
    ([], "inspect    what a trace is like"), (["frob"], "found 'frob', expected inspect, convert or generate"),
    (["inspect"], "--in is missing"), (["convert"], "--in is missing"), (["generate"], "--rate is missing"),
    (["inspect", "--in", "x", "--format", "csv"], "--format: found 'csv', allowed is auto, azure"),
    (["convert", "--in", "x", "--format", "csv"], "--format: found 'csv', allowed is auto, azure"),
    (["convert", "--in", "x", "--json"], "--json prints on standard output"),
    (["convert", "--in", "x", "--width", "2:8"], "--branching says how many"),
    (["generate", "--rate", "1", "--width", "2"], "--branching says how many"),
    (["generate", "--preset", "W11"], "--preset: found 'W11', allowed is W1 to W10"),
    (["generate", "--rate", "1", "--cached", "1.01"], "--cached: found 1.01, allowed is 0 to below 1"),
    (["generate", "--rate", "1", "--cached", "1"], "--cached: found 1, allowed is 0 to below 1"),
    (["generate", "--rate", "1", "--branching", "1", "--width", "2:100000"], "--width: found 2 to 100000, allowed is a range"),
    (["generate", "--rate", "1", "--seed", "18446744073709551615"], "allowed is an integer from 0 to 9223372036854775807"),
    (["convert", "--in", "x", "--branching", "2"], "--branching: found '2', allowed is 0 to 1"),
    (["generate", "--rate", "1", "--json"], "--json prints on standard output"),
    (["generate", "--rate", "0"], "--rate: found 0"), (["generate", "--rate", "-1"], "--rate: found -1"),
    (["generate", "--rate", "1", "--duration", "5"], "--duration: found '5', allowed is a time with its unit"),
    (["generate", "--rate", "1", "--preset", "W11"], "--preset: found 'W11', allowed is W1 to W10"),
    (["generate", "--rate", "1", "--lengths", "nothing"], "--lengths: found 'nothing'"),
    (["generate", "--rate", "1", "--arrivals", "gamma:0"], "--arrivals gamma: found CV 0"),
    (["generate", "--rate", "1", "--class", "a:1:1s:1s", "--slo-ttft", "1s"], "not both")])
def test_wrong_usage(arguments, words):
    out, err = trace(*arguments, code=2)
    assert out == "" and words in err


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["convert"], ["generate"]])
def test_help_begins_with_an_example(arguments):
    out, err = trace(*arguments, "--help")
    assert out.startswith("Example:\n  espalier trace ") and err == ""


# --- large files, ends, terminals

@pytest.fixture(scope="module")
def half_a_million(tmp_path_factory):
    """Native and as Azure's CSV."""
    directory = tmp_path_factory.mktemp("large")
    native, csv = directory / "large.jsonl", directory / "large.csv"
    trace("generate", "--preset", "W1", "--rate", "20", "--requests", "500000", "--out", native)
    with open(csv, "w") as file:
        file.write(AZURE)
        for i in range(500000):
            second = i // 8
            file.write(f"2023-11-{1 + second // 86400:02}"
                       f" {second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.{i % 8}000000,374,44\n")
    return native, csv


def measured(*arguments):
    """Seconds and the most megabytes of a run."""
    started, kilobytes = time.monotonic(), 0
    run = subprocess.Popen([ESPALIER, "trace", *map(str, arguments)], stdout=subprocess.DEVNULL)
    while run.poll() is None:
        status = pathlib.Path(f"/proc/{run.pid}/status").read_text()
        kilobytes = max([kilobytes, *(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)])
        time.sleep(0.005)
    assert run.returncode == 0 and kilobytes > 0
    return time.monotonic() - started, kilobytes / 1024


def test_half_a_million_lines_in_bounded_memory(half_a_million, tmp_path):
    sanitized = "asan" in ESPALIER or "tsan" in ESPALIER
    for path in half_a_million:
        for command in (["inspect"], ["convert", "--out", tmp_path / "out", "--branching", "0.5"]):
            seconds, megabytes = measured(*command, "--in", path)
            print(f"{command[0]} {path.suffix}: {seconds:.1f} s, {megabytes:.0f} MB")
            assert seconds < PATIENCE and (sanitized or megabytes < 32), f"{seconds} s, {megabytes} MB"
        found = json.loads(trace("inspect", "--in", tmp_path / "out", "--json")[0])
        assert found["requests"] == 500000


def test_a_run_that_is_killed_leaves_the_old_file(half_a_million, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("what was there\n")
    run = subprocess.Popen([ESPALIER, "trace", "convert", "--in", half_a_million[0], "--out", out],
                           stderr=subprocess.DEVNULL)
    time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait(PATIENCE)
    assert out.read_text() == "what was there\n"


def test_a_bar_on_a_terminal_only(half_a_million):
    assert trace("inspect", "--in", half_a_million[1])[1] == ""
    parent, child = pty.openpty()
    run = subprocess.Popen([ESPALIER, "trace", "inspect", "--in", half_a_million[0]], stdout=subprocess.DEVNULL,
                           stderr=child)
    assert run.wait(PATIENCE) == 0
    shown = os.read(parent, 1 << 20).decode()
    assert "reading [#" in shown and shown.endswith("\r\x1b[K")
    os.close(parent)
    os.close(child)


# --- docs/workloads.md

def test_the_page_s_commands_work_as_typed(tmp_path):
    page = (ROOT / "docs" / "workloads.md").read_text()
    shown = re.search(r"^```text\n(format  .*?)^```$", page, re.M | re.S)[1]
    commands = [command for block in re.findall(r"^```bash\n(.*?)^```$", page, re.M | re.S)
                for command in block.split("\n\n") if "espalier trace" in command]
    assert len(commands) >= 8
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "espalier").symlink_to(ESPALIER)
    outputs = {}
    for command in commands:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True,
                              timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        outputs[command.split("\n")[0]] = done.stdout + done.stderr
    # Digits may differ where another C library rounds a logarithm otherwise.
    assert re.sub(r"\d", "#", outputs["# What it is like"].strip()) == re.sub(r"\d", "#", shown.strip())
    sentence = re.search(r"The first prints `([^`]*)`", page)[1]
    assert sentence in outputs["# The third line has a word for a number"]
    assert "1 of 3 lines were malformed" in outputs["# --skip-bad counts such lines and goes on; --json has bad_lines and"
                                                    " first_bad"]
    half = json.loads(trace("inspect", "--in", tmp_path / "branching.jsonl", "--json")[0])
    assert half["requests"] == 2 and half["branching_share"] == 0.5
    for name in ("w4", "burst", "branching", "mixed", "like-burst"):
        lines_of((tmp_path / f"{name}.jsonl").read_text())
