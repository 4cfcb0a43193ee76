"""`espalier simulate` and `espalier profile`: the same question gets the same bytes, whoever asks on how many threads and
after what interruption; odd traces, profiles and words are told apart; what is printed, written and shown says that it is
simulated."""
import json
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
INTERFACES = ["policy", "requests", "completed", "refused", "failed", "slo_attainment", "goodput", "ttft_ms", "tpot_ms",
              "e2e_ms", "serial", "branching", "steps"]  # ../shared/reference/interfaces.md
GROUP = ["requests", "completed", "refused", "failed", "slo_attainment", "goodput", "ttft_ms", "tpot_ms", "e2e_ms"]
KINDS = ["mean", "envelope", "gaps", "stages"]
PROFILES = ["study-h200", "h200-qwen3-32b", "h200x2-qwen3-32b", "h100x2-qwen3-32b", "h100-qwen3-32b-fp8"]


@pytest.fixture
def run(tmp_path):
    """Runs a command in a folder of the test's own, with a cache of its own."""
    def one(*arguments, code=0, stdin=None):
        done = subprocess.run([ESPALIER, *map(str, arguments)], input=stdin, capture_output=True, cwd=tmp_path,
                              env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}, timeout=10 * PATIENCE)
        assert done.returncode == code, done.stderr.decode(errors="replace")[-2000:]
        return done.stdout.decode(), done.stderr.decode(errors="replace")
    return one


@pytest.fixture
def simulate(run):
    return lambda *arguments, **more: run("simulate", *arguments, **more)


@pytest.fixture
def document(simulate):
    """The one JSON document of a simulation, without the command in it."""
    def one(*arguments, **more):
        found = json.loads(simulate(*arguments, "--json", **more)[0])
        assert found.pop("command").startswith("espalier simulate ") and found["simulated"] is True
        return found
    return one


def by_policy(found):
    return {policy["policy"]: policy for policy in found["policies"]}


def write(path, requests):
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


def request(at, prompt=100, stages=(20,), **more):
    return {"arrival_ms": at, "prompt_tokens": prompt, "stages": list(stages), **more}


@pytest.fixture
def steady(tmp_path):
    """Two requests a second for a minute, every other with branches."""
    return write(tmp_path / "steady.jsonl", [
        request(500 * i, 300, [20, [40, 60, 80], 20] if i % 2 else [60]) for i in range(120)])


# A search that is short: few seeds, short runs.
QUICK = "--preset", "W5", "--duration", "20s", "--seeds", "3", "--policy", "off,eager", "--goodput"


# --- what comes out

def test_the_issue_s_commands(run, tmp_path):
    run("trace", "generate", "--preset", "W4", "--rate", "1.5", "--seed", "7", "--duration", "60s", "--out", "w4.jsonl")
    out, _ = run("simulate", "--trace", "w4.jsonl", "--profile", "study-h200", "--policy", "off,eager,cap:4", "--goodput",
                 "--json")
    found = json.loads(out)
    assert found["command"] == ("espalier simulate --trace w4.jsonl --profile study-h200 --policy off,eager,cap:4"
                                " --goodput --json")
    assert found["version"] and found["profile"] == "study-h200" and found["simulated"] is True
    assert found["trace"]["requests"] == sum(1 for _ in open(tmp_path / "w4.jsonl")) - 1
    assert found["trace"]["branching_share"] > 0.2 and found["seeds"] == 8
    assert [policy["policy"] for policy in found["policies"]] == ["off", "eager", "cap:4"]
    for policy in found["policies"]:
        assert set(INTERFACES) <= set(policy)
        assert {"requests_per_s", "tokens_per_s", "max_rate"} <= set(policy["goodput"])
        low, high = policy["goodput"]["max_rate_interval"]
        assert 0 <= low <= policy["goodput"]["max_rate"] <= high and len(policy["goodput"]["without_seed"]) == 8
        for part in policy, policy["serial"], policy["branching"]:
            assert set(GROUP) <= set(part)
            for name in "ttft_ms", "tpot_ms", "e2e_ms":
                assert {"mean", "p50", "p90", "p99", "max"} <= set(part[name])
        assert {"count", "latency_ms", "width", "predicted_error"} <= set(policy["steps"])
        assert policy["slo_attainment"] >= 0.95
        assert policy["requests"] == policy["serial"]["requests"] + policy["branching"]["requests"]
        # By the points that were tried: the rate found is the highest that holds.
        held = [point["rate"] for point in policy["points"] if point["slo_attainment"] >= 0.95]
        assert max(held) == pytest.approx(policy["goodput"]["max_rate"], rel=1e-9)
    assert {(ratio["of"], ratio["to"]) for ratio in found["ratios"]} == {
        ("eager", "off"), ("cap:4", "off"), ("cap:4", "eager")}


def test_every_policy_at_its_own_chunk(run):
    """Issue 8's command, on a shorter trace and with fewer seeds."""
    run("trace", "generate", "--preset", "W4", "--rate", "1.5", "--seed", "7", "--duration", "40s", "--out", "w4.jsonl")
    names = "taper,taper-paper,off,eager,cap:2,cap:4,cap:8".split(",")
    out, _ = run("simulate", "--trace", "w4.jsonl", "--profile", "study-h200-noshare", "--policy", ",".join(names), "--goodput",
                 "--prefill-chunk", "best", "--seeds", "3", "--json")
    found = json.loads(out)
    assert [policy["policy"] for policy in found["policies"]] == names
    assert all(policy["prefill_chunk"] in (128, 256, 384, 512) for policy in found["policies"])
    rates = {policy["policy"]: policy["goodput"]["max_rate"] for policy in found["policies"]}
    for policy in found["policies"]:  # no chunk gives a policy more
        for chunk in 128, 256, 384, 512:
            alone, _ = run("simulate", "--trace", "w4.jsonl", "--profile", "study-h200-noshare", "--policy", policy["policy"], "--rate",
                           str(rates[policy["policy"]] * 1.01), "--prefill-chunk", str(chunk), "--seeds", "3", "--json")
            assert json.loads(alone)["policies"][0]["slo_attainment"] < 0.95, (policy["policy"], chunk)
    assert rates["taper"] > rates["off"]


def test_the_page_s_commands(run, tmp_path):
    """Those of the simulating part of docs/workloads.md, on runs of half a minute."""
    page = (ROOT / "docs" / "workloads.md").read_text()
    page = page[page.index("\n## Simulate"):page.index("\n## Replay")]
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S) for line in block.splitlines()
                if line.startswith("build/espalier ") and "profile.json" not in line]
    assert len(commands) >= 4
    for command in commands:
        words = command.split()[1:] + ["--duration", "30s"]
        run(*words, *(["--seeds", "2"] if "--goodput" in words else []))
    assert (tmp_path / "goodput.html").stat().st_size > 10000


def test_it_says_that_it_is_simulated(simulate, steady, tmp_path):
    out, err = simulate("--trace", steady, "--policy", "off,eager", "--report", "page.html")
    assert out.startswith("Simulated on study-h200\n") and "times real time" in err
    for words in ("off", "eager", "SLO attainment, by mean", "by stages", "TTFT, ms", "TPOT, ms", "branching requests"):
        assert words in out
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert "imulated" in re.sub(r"<style.*?</style>", "", page, flags=re.S)[:1500]
    assert all(name in page for name in ("off", "eager", "study-h200", "espalier simulate"))
    out, _ = simulate(*QUICK, "--brief")
    assert out.startswith("Simulated goodput: the highest rate")


def test_all_four_definitions_in_one_run(document, steady):
    found = {kind: by_policy(document("--trace", steady, "--policy", "eager", "--rate", "6", "--slo-tpot", "25ms",
                                      "--slo-kind", kind))["eager"] for kind in KINDS}
    attainments = found["mean"]["slo_kinds"]
    assert list(attainments) == KINDS and len({kind["attainment"] for kind in attainments.values()}) > 1
    for kind in KINDS:
        assert found[kind]["slo_kinds"] == attainments and found[kind]["slo_kind"] == kind
        assert found[kind]["slo_attainment"] == attainments[kind]["attainment"]


# --- the same bytes

def test_the_same_bytes_on_any_number_of_threads_with_any_cache(simulate, document, steady):
    for command in (["--trace", steady, "--seeds", "2"], QUICK, [*QUICK, "--concurrency", "4,9"]):
        cold = document(*command, "--jobs", "2")
        assert document(*command, "--jobs", "1") == cold  # by now warm, where something is kept
        assert document(*command, "--jobs", "1", "--no-cache") == cold
        assert document(*command, "--no-cache") == cold
        assert simulate(*command, "--json")[0] == simulate(*command, "--json")[0]
        assert document(*command, "--seed", "2")["policies"] != cold["policies"]


def test_one_seed_has_no_interval(simulate, document, tmp_path):
    command = "--preset", "W5", "--duration", "20s", "--seeds", "1", "--policy", "off,eager", "--goodput"
    found = document(*command)
    assert all(policy["goodput"]["max_rate_interval"] is None for policy in found["policies"])
    assert all(ratio["interval"] is None and ratio["ratio"] > 0 for ratio in found["ratios"])
    out, _ = simulate(*command, "--report", "page.html")
    assert "over 1 seed; an interval needs several" in out and "jackknife" not in out and "nan" not in out
    off = next(line.split() for line in out.splitlines() if line.startswith("  off "))
    assert off[2] == "-" and off[3] == "256"
    page = (tmp_path / "page.html").read_text()
    assert "nan" not in re.sub(r"<style.*?</style>", "", page, flags=re.S).lower()


def test_what_the_warm_up_leaves_out(simulate, document, steady, tmp_path):
    found = by_policy(document("--trace", steady, "--policy", "off,eager", "--warmup", "5s"))
    for policy in found.values():  # two a second for a minute
        assert policy["warmup_s"] == 5 and policy["not_scored"] == 120 - policy["requests"] and 18 <= policy["not_scored"] <= 21
    left_out = found["off"]["not_scored"]
    line = f"{left_out} requests, which arrived in the first or the last 5 s (--warmup)"
    out, _ = simulate("--trace", steady, "--policy", "off,eager", "--warmup", "5s", "--report", "page.html")
    assert f"\nNot scored: {line}\n" in out and line in (tmp_path / "page.html").read_text()
    out, _ = simulate("--trace", steady, "--policy", "off", "--warmup", "0s")
    assert "Not scored" not in out
    closed = document("--trace", steady, "--policy", "off", "--concurrency", "3", "--duration", "30s", "--warmup", "5s")
    assert closed["policies"][0]["warmup_s"] == 5 and closed["policies"][0]["not_scored"] > 0


def test_limits_that_change_nothing_are_told(simulate, steady, tmp_path):
    own = write(tmp_path / "own.jsonl", [request(500 * i, slo={"ttft_ms": 900, "tpot_ms": 30}) for i in range(60)])
    given = "--slo-ttft", "1s", "--slo-tpot", "20ms"
    words = "--slo-ttft and --slo-tpot change nothing here: each request of the trace names its own"
    assert words in simulate("--trace", own, "--policy", "off", *given)[1]
    assert "--slo-ttft changes nothing here" in simulate("--trace", own, "--policy", "off", *given[:2])[1]
    assert "nothing here" not in simulate("--trace", own, "--policy", "off")[1]
    assert "nothing here" not in simulate("--trace", steady, "--policy", "off", *given)[1]


def test_spaces_between_policies(document, steady):
    found = document("--trace", steady, "--policy", "off, eager ,cap:2")
    assert [policy["policy"] for policy in found["policies"]] == ["off", "eager", "cap:2"]


def test_one_long_run_says_how_far_it_is():
    """On a terminal, more often than once a run."""
    parent, child = pty.openpty()
    run = subprocess.Popen([ESPALIER, "simulate", "--preset", "W4", "--rate", "150", "--duration", "30s", "--policy", "eager"],
                           stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    seen = b""
    try:
        while chunk := os.read(parent, 65536):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    os.close(parent)
    assert run.wait(PATIENCE) == 0
    shares = [int(share) for share in re.findall(rb"(\d+) %", seen)]
    assert shares == sorted(shares) and any(0 < share < 100 for share in shares), seen


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_one_place_for_both_streams(steady, tmp_path, json_too):
    done = subprocess.run([ESPALIER, "simulate", "--trace", steady, "--policy", "off", *json_too], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)
    assert re.fullmatch(rb"espalier: simulated .* times real time", done.stdout.splitlines()[-1])


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cached", [True, False])
def test_a_stopped_search_leaves_no_page(tmp_path, ending, cached):
    sweep = subprocess.Popen([ESPALIER, "simulate", "--preset", "W4", "--goodput", "--jobs", "1", "--report", "new.html",
                              *([] if cached else ["--no-cache"])], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             cwd=tmp_path, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as from a terminal
    time.sleep(1)
    sweep.send_signal(ending)
    out, err = sweep.communicate(timeout=PATIENCE)
    assert out == b"" and sweep.returncode == -ending
    assert err.endswith(b"espalier: stopped; finished searches are kept: run again to go on\n") is cached
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_goes_on(document, tmp_path, ending):
    command = "--preset", "W5", "--duration", "40s", "--seeds", "3", "--policy", "eager,off,cap:2,cap:3", "--goodput"
    kept = tmp_path / "cache" / "espalier" / "simulate"
    sweep = subprocess.Popen([ESPALIER, "simulate", *command, "--jobs", "1"], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    deadline = time.monotonic() + PATIENCE
    while not (kept.is_dir() and any(kept.glob("*.json"))) and time.monotonic() < deadline:
        time.sleep(0.005)
    sweep.send_signal(ending)
    out, _ = sweep.communicate(timeout=PATIENCE)
    assert out == b"" and sweep.returncode == -ending
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    resumed = document(*command)
    assert resumed == document(*command, "--no-cache")
    after = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert 0 < len(before) < len(after) and before.items() <= after.items()


def test_a_spoilt_cache_costs_time_only(document, tmp_path):
    fresh = document(*QUICK)
    files = sorted((tmp_path / "cache" / "espalier" / "simulate").glob("*.json"))
    for path, text in zip(files, ['{"key": "another", "points": []}', "{", "[]", "null"]):
        path.write_text(text)
    assert document(*QUICK) == fresh
    (tmp_path / "file").write_text("")
    assert document(*QUICK, "--cache", tmp_path / "file" / "under") == fresh


# --- what a policy must stand

def test_a_biased_predictor_another_noise_another_room(document, simulate, steady):
    common = "--trace", steady, "--rate", "2", "--policy", "taper,eager", "--slo-tpot", "25ms"
    plain = document(*common)
    assert (plain["predictor_bias"], plain["noise"], plain["kv_tokens"]) == (1, 0.04, 229000)
    biased = document(*common, "--predictor-bias", "1.15")
    assert biased["predictor_bias"] == 1.15
    assert by_policy(biased)["eager"] == by_policy(plain)["eager"]  # it asks no predictor
    errors = [by_policy(found)["taper"]["steps"]["predicted_error"] for found in (plain, biased)]
    assert errors[0] < 0.06 and 0.1 < errors[1] < 0.2
    quiet, small = document(*common, "--noise", "0"), document(*common, "--kv-tokens", "900")
    assert (quiet["noise"], small["kv_tokens"]) == (0, 900)
    for other in quiet, small:
        assert by_policy(other)["eager"] != by_policy(plain)["eager"]
    for wrong in (("--predictor-bias", "0"), ("--noise", "2.1"), ("--kv-tokens", "8")):
        assert wrong[0] in simulate(*common, *wrong, code=2)[1]


def test_the_cache_knows_what_a_policy_had_to_stand(document):
    command = *QUICK, "--brief", "--policy", "taper"
    kept = [document(*command), document(*command, "--predictor-bias", "3"), document(*command, "--kv-tokens", "3000")]
    assert kept[0]["policies"] != kept[1]["policies"] and kept[0]["policies"] != kept[2]["policies"]
    assert kept == [document(*command), document(*command, "--predictor-bias", "3"), document(*command, "--kv-tokens", "3000")]


# --- loads

def test_open_loop_at_its_own_times_or_scaled(document, steady):
    own = document("--trace", steady, "--policy", "eager", "--warmup", "0s")
    assert own["policies"][0]["requests"] == 120 and own["policies"][0]["offered_rate"] == pytest.approx(2, rel=0.02)
    assert own["trace"]["rate_per_s"] == pytest.approx(2)
    fast = document("--trace", steady, "--policy", "eager", "--warmup", "0s", "--rate", "8")["policies"][0]
    assert fast["requests"] == 120 and fast["offered_rate"] == pytest.approx(8, rel=0.02)
    assert fast["ttft_ms"]["mean"] > own["policies"][0]["ttft_ms"]["mean"]
    half = document("--trace", steady, "--policy", "eager", "--warmup", "0s", "--requests", "60")
    assert half["policies"][0]["requests"] == half["trace"]["requests"] == 60
    short = document("--trace", steady, "--policy", "eager", "--warmup", "0s", "--duration", "10s")["policies"][0]
    assert short["requests"] == 20  # not the one at 10 s
    middle = document("--trace", steady, "--policy", "eager", "--warmup", "5s")["policies"][0]
    assert middle["requests"] == 100  # from 5 s on to 5 s before the last


def test_closed_loop(document, steady):
    one, many = (document("--trace", steady, "--policy", "eager", "--duration", "60s", "--concurrency", n)["policies"][0]
                 for n in (1, 16))
    assert many["goodput"]["requests_per_s"] > 4 * one["goodput"]["requests_per_s"] > 0
    assert many["steps"]["width"]["mean"] > 4 * one["steps"]["width"]["mean"]


@pytest.mark.parametrize("clients", ["2,6,18,54", "auto"])
def test_closed_loop_s_goodput_is_the_best_over_n(document, steady, clients):
    """Not the most clients that hold the target, and not one chosen N."""
    found = document("--trace", steady, "--policy", "off,eager", "--duration", "40s", "--seeds", "2", "--goodput",
                     "--concurrency", clients, "--slo-tpot", "22ms")
    for policy in found["policies"]:
        held = [point for point in policy["points"] if point["slo_attainment"] >= 0.95]
        best = max(held, key=lambda point: point["requests_per_s"])
        assert policy["goodput"]["best_requests_per_s"] == pytest.approx(best["requests_per_s"])
        assert policy["goodput"]["concurrency"] == best["concurrency"]
        assert any(point["slo_attainment"] < 0.95 for point in policy["points"])
        assert clients == "auto" or [point["concurrency"] for point in policy["points"]] == [2, 6, 18, 54]


def test_prefill_chunks(document, tmp_path):
    source = write(tmp_path / "t.jsonl", [request(400 * i, 1500, [20, [30, 40], 10] if i % 2 else [30])
                                          for i in range(60)])
    common = "--trace", source, "--policy", "off,eager", "--goodput", "--seeds", "2", "--brief", "--no-cache"
    rates = {}
    for chunk in "128", "256", "384", "512", "best", "slo":
        found = by_policy(document(*common, "--prefill-chunk", chunk))
        rates[chunk] = {name: policy["goodput"]["max_rate"] for name, policy in found.items()}
        chunks = {name: policy["prefill_chunk"] for name, policy in found.items()}
        assert chunk == "best" or set(chunks.values()) == {512 if chunk == "slo" else int(chunk)}
        assert all(policy.get("prefill_chunk_rule") == ("slo" if chunk == "slo" else None) for policy in found.values())
        if chunk == "best":
            best_of = chunks
    for name, chunk in best_of.items():
        fixed = {size: rates[size][name] for size in ("128", "256", "384", "512")}
        assert rates["best"][name] == fixed[str(chunk)] == max(fixed.values())
    assert rates["slo"]["eager"] > 0 and rates["128"] != rates["512"]


# --- profiles

@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_and_its_twin(document, steady, name):
    shared, own = (document("--trace", steady, "--profile", twin, "--policy", "eager", "--rate", "8")
                   for twin in (name, name + "-noshare"))
    assert (shared["profile"], own["profile"]) == (name, name + "-noshare")
    assert own["policies"][0]["steps"]["latency_ms"]["mean"] > shared["policies"][0]["steps"]["latency_ms"]["mean"] > 1


@pytest.fixture
def page_profile():
    page = (ROOT / "docs" / "workloads.md").read_text()
    return json.loads(re.search(r'^```json\n(\{\s*"espalier_profile".*?)^```$', page, re.M | re.S)[1])


def test_a_profile_of_one_s_own(document, steady, tmp_path, page_profile):
    (tmp_path / "mine.json").write_text(json.dumps(page_profile))
    found = document("--trace", steady, "--profile", "mine.json", "--policy", "eager")
    assert found["profile"] == "my-engine" and found["policies"][0]["completed"] > 50
    for key, value in (("max_rows", 1), ("max_tokens", 1), ("depth", 2), ("vocab", 1), ("noise", 0)):
        (tmp_path / "mine.json").write_text(json.dumps(page_profile | {key: value}))
        changed = document("--trace", steady, "--profile", "mine.json", "--policy", "eager")
        assert changed["policies"][0]["completed"] > 50, key
        assert key in ("depth", "vocab") or changed["policies"] != found["policies"], key


@pytest.mark.parametrize("change, words", [
    ({"kv_tokens": 15}, "'kv_tokens' is 15; a whole number from 16 to "),
    ({"kv_tokens": "many"}, "'kv_tokens' is not a number"), ({"max_rows": 1.5}, "'max_rows' is 1.5; a whole number from"),
    ({"depth": 3}, "'depth' is 3; a whole number from 1 to 2"), ({"fixed_us": -1}, "'fixed_us' is -1; a number from 0"),
    ({"shared_prefix": "sometimes"}, "'shared_prefix' is \"sometimes\"; allowed are \"none\", \"siblings\", \"blocks\""),
    ({"noize": 1}, "'noize' is no key here; allowed are espalier_profile, name"),
    ({"name": ""}, "a text of 1 to 63 bytes is expected"), ({"espalier_profile": 2}, "'espalier_profile' is not 1"),
    ({"gemm": {"form": "spline"}}, "'form' is \"spline\"; allowed are \"linear\", \"roofline\", \"points\", \"tiles\""),
    ({"gemm": {"form": "points", "points": [[2, 5], [1, 5]]}}, "'points'[1] is at 1 tokens, not above the 2 before it"),
    ({"gemm": None}, "gemm"), ({"gemm": {"form": "linear", "base_us": 1}}, "'token_us' is missing")])
def test_a_broken_profile(simulate, steady, tmp_path, page_profile, change, words):
    (tmp_path / "broken.json").write_text(json.dumps(page_profile | change))
    out, err = simulate("--trace", steady, "--profile", "broken.json", code=1)
    assert out == "" and "broken.json: " in err and words in err


def test_a_profile_that_is_none(simulate, steady, tmp_path):
    (tmp_path / "cut.json").write_text('{"espalier_profile": 1,')
    assert "cut.json: line 1, column " in simulate("--trace", steady, "--profile", "cut.json", code=1)[1]
    assert "a directory" in simulate("--trace", steady, "--profile", tmp_path, code=1)[1]
    _, err = simulate("--trace", steady, "--profile", "h300", code=1)
    assert "'h300' is no file and no built-in profile" in err and all(f"{name}-noshare" in err for name in PROFILES)


# --- traces

def test_traces_of_each_format_and_from_a_pipe(document, simulate, tmp_path):
    lines = [(i * 250, 100 + i, 20) for i in range(40)]
    texts = {
        "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
            f"2023-11-16 18:15:{at // 1000:02}.{at % 1000:03}0000,{prompt},{out}\n" for at, prompt, out in lines),
        "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
            f"{at / 1000},GPT-4,{prompt},{out},{prompt + out},\n" for at, prompt, out in lines),
        "mooncake": "".join(json.dumps({"timestamp": at, "input_length": prompt, "output_length": out}) + "\n"
                            for at, prompt, out in lines),
        "espalier": "".join(json.dumps(request(at, prompt, [out])) + "\n" for at, prompt, out in lines)}
    results = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found = document("--trace", name, "--policy", "eager")
        assert found["trace"].pop("format") == name and found["trace"].pop("file") == name
        piped = document("--trace", "-", "--policy", "eager", stdin=text.encode())
        assert piped["policies"] == found["policies"]
        results.append(found["policies"])
    assert all(policies == results[0] for policies in results)
    bad = texts["espalier"] + "what\n" + texts["burstgpt"].splitlines()[1] + "\n"
    (tmp_path / "bad").write_text(bad)
    assert "bad: line 41: " in simulate("--trace", "bad", code=1)[1]
    out, err = simulate("--trace", "bad", "--skip-bad", "--policy", "eager", "--json")
    assert "2 of 42 lines were malformed and skipped; the first: line 41" in err and json.loads(out)["trace"]["bad_lines"] == 2
    (tmp_path / "failed").write_text(texts["burstgpt"] + "11,GPT-4,10,0,10,\n")
    assert "1 requests got no output token (they failed) and were left out" in simulate("--trace", "failed")[1]
    assert "the file is empty" in simulate("--trace", "-", code=1, stdin=b"")[1]
    assert "nothing.jsonl: No such file" in simulate("--trace", "nothing.jsonl", code=1)[1]


@pytest.mark.parametrize("count", [1, 6])
def test_requests_of_one_moment(document, simulate, tmp_path, count):
    """There is no rate; what is done in a second is counted until the last has ended."""
    source = write(tmp_path / "t.jsonl", [request(7.5)] * count)
    found = document("--trace", source, "--policy", "off,eager")
    for policy in found["policies"]:
        assert policy["requests"] == policy["completed"] == count and policy["slo_attainment"] == 1
        assert policy["scored_s"] == pytest.approx(policy["e2e_ms"]["max"] / 1000)
        assert policy["goodput"]["requests_per_s"] == pytest.approx(count / policy["scored_s"])
    for load in ["--rate", "2"], ["--goodput"]:
        assert f"all requests in it ({count}) arrive at one time" in simulate("--trace", source, *load, code=1)[1]
    assert document("--trace", source, "--policy", "eager", "--concurrency", "2", "--duration", "20s")["policies"][0][
        "slo_attainment"] == 1


def test_nothing_to_score_is_told(document, simulate, tmp_path):
    source = write(tmp_path / "t.jsonl", [request(0), request(1000)])
    out, err = simulate("--trace", source, "--policy", "eager", "--json")
    policy = json.loads(out)["policies"][0]
    assert policy["requests"] == 0 and policy["slo_attainment"] is None and policy["ttft_ms"]["p50"] is None
    assert "eager: no request was scored" in err and "--warmup" in err
    assert document("--trace", source, "--policy", "eager", "--warmup", "0s")["policies"][0]["requests"] == 2
    assert "no request was scored" in simulate("--preset", "W1", "--rate", "0.000001", "--policy", "eager")[1]
    late = write(tmp_path / "late.jsonl", [request(0), request(10, 200000)])
    assert "none ended in the time that counts" in simulate("--trace", late, "--policy", "eager", "--concurrency", "1",
                                                            "--requests", "1", "--duration", "100us")[1]


def test_requests_that_can_never_run_are_refused(document, simulate, tmp_path):
    """Beyond the context, beyond the KV pool, wider than it; the others run."""
    source = write(tmp_path / "t.jsonl", [
        request(0), request(100, 200000), request(200, 131000, [2000]), request(300, 999999000),
        request(400, 100, [10, [300000, 5], 3]), request(500, 130000, [10, [1000] * 500, 3]),
        request(600, 100, [10, [5] * 600, 3]), request(700, 100, [[5, 6], [7, 8]])])
    found = document("--trace", source, "--policy", "eager", "--warmup", "0s")["policies"][0]
    assert (found["requests"], found["completed"], found["refused"]) == (8, 3, 5)
    assert found["reasons"] == [{"outcome": "refused", "reason": "too long", "count": 5}]
    assert found["slo_attainment"] == pytest.approx(3 / 8)
    assert "too long" in simulate("--trace", source, "--policy", "eager", "--warmup", "0s")[0]
    only = write(tmp_path / "only.jsonl", [request(0, 200000), request(10, 200000)])
    for load in ["--warmup", "0s"], ["--concurrency", "2", "--warmup", "0s"]:
        policy = document("--trace", only, "--policy", "eager", *load)["policies"][0]
        assert policy["refused"] >= 1 and policy["completed"] == 0 and policy["slo_attainment"] == 0


def test_no_load_holds_a_target_that_nobody_meets(simulate, steady, tmp_path):
    arguments = "--trace", steady, "--goodput", "--seeds", "2", "--policy", "off,eager", "--slo-ttft", "1us"
    out, err = simulate(*arguments, "--json", "--report", "page.html")
    for policy in json.loads(out)["policies"]:
        assert policy["goodput"]["max_rate"] == 0 and policy["goodput"]["max_rate_interval"] == [0, 0]
        assert f"{policy['policy']}: no rate was found at which 95 % of the requests meet their SLO" in err
    assert json.loads(out)["ratios"] == []
    assert (tmp_path / "page.html").stat().st_size > 1000
    assert "no number of clients was found" in simulate(*arguments, "--concurrency", "1,4")[1]


def test_requests_without_limits(document, simulate, steady):
    policy = document("--trace", steady, "--policy", "eager", "--rate", "500", "--slo-ttft", "none", "--slo-tpot",
                      "none")["policies"][0]
    assert policy["slo_attainment"] == 1 and policy["ttft_ms"]["max"] > 2000
    _, err = simulate("--trace", steady, "--policy", "eager", "--goodput", "--slo-ttft", "none", "--slo-tpot", "none",
                      "--seeds", "2", code=1)
    assert "the target holds even at " in err and "--slo-ttft" in err
    for slo in ["--slo-ttft", "none", "--slo-tpot", "none"], ["--slo-ttft", "none", "--slo-tpot", "1s"]:
        _, err = simulate("--preset", "W5", "--policy", "eager", "--goodput", "--duration", "5s", "--seeds", "1", *slo, code=1)
        assert "the target holds even at " in err and "SLO that waiting breaks" in err


def test_a_preset_is_scored_by_the_slo_asked_for(document):
    """Not by its own, of 2 s and 50 ms."""
    load = "--preset", "W5", "--rate", "1", "--duration", "40s", "--policy", "eager"
    assert document(*load)["policies"] == document(*load, "--slo-ttft", "2s", "--slo-tpot", "50ms")["policies"]
    assert document(*load)["policies"][0]["slo_attainment"] > 0.5
    assert document(*load, "--slo-ttft", "1us")["policies"][0]["slo_attainment"] == 0
    assert document(*load, "--slo-tpot", "10ms")["policies"][0]["slo_attainment"] < 0.5
    assert document(*load, "--slo-ttft", "none", "--slo-tpot", "none")["policies"][0]["slo_attainment"] == 1


def test_a_trace_s_own_limits_win(document, tmp_path):
    source = write(tmp_path / "t.jsonl", [request(200 * i, slo={"ttft_ms": 0.001} if i % 2 else {}) for i in range(100)])
    policy = document("--trace", source, "--policy", "eager", "--warmup", "0s")["policies"][0]
    assert policy["slo_attainment"] == 0.5


def test_huge_concurrency(document, steady):
    policy = document("--trace", steady, "--policy", "eager", "--concurrency", "4096", "--duration", "30s",
                      "--prefill-chunk", "8192")["policies"][0]
    assert policy["completed"] > 0 and policy["steps"]["width"]["max"] <= 512


def test_shared_prefixes_are_computed_once(document, tmp_path):
    """The same lengths at the same times: what is shared waits less, and more of it fits."""
    same, own = (write(tmp_path / name, [request(150 * i, 2100, [20], prefix=[[7 if name == "same" else i, 2048]])
                                         for i in range(80)]) for name in ("same", "own"))
    shared, alone = (document("--trace", source, "--policy", "eager", "--warmup", "2s") for source in (same, own))
    assert shared["trace"]["prefix_reuse"] > 0.9 and alone["trace"]["prefix_reuse"] == 0
    (shared,), (alone,) = shared["policies"], alone["policies"]
    assert shared["completed"] == alone["completed"] == shared["requests"] > 50
    assert shared["ttft_ms"]["p50"] < 0.4 * alone["ttft_ms"]["p50"]
    assert shared["steps"]["latency_ms"]["mean"] < alone["steps"]["latency_ms"]["mean"]


# --- words

@pytest.mark.parametrize("arguments, words", [
    ([], "one of --trace and --preset is needed"), (["--trace", "t", "--preset", "W1"], "one of --trace and --preset"),
    (["--preset", "W11", "--rate", "1"], "--preset: found 'W11', allowed is W1 to W10"),
    (["--preset", "W1"], "--preset needs --rate, --concurrency or --goodput"),
    (["--preset", "W1", "--rate", "1", "--requests", "5"], "--requests, --format and --skip-bad are for --trace"),
    (["--preset", "W1", "--rate", "0"], "--rate is 0; 0.000001 to 1000000 is allowed"),
    (["--preset", "W1", "--rate", "-1"], "--rate is -1"), (["--preset", "W1", "--rate", "nan"], "--rate: found 'nan'"),
    (["--preset", "W1", "--rate", "1", "--goodput"], "--rate and --goodput"),
    (["--preset", "W1", "--rate", "1", "--concurrency", "2"], "--rate and --concurrency"),
    (["--preset", "W1", "--rate", "1", "--duration", "0s"], "--duration: found '0s'"),
    (["--preset", "W1", "--rate", "1", "--duration", "60"], "allowed is a time with its unit"),
    (["--preset", "W1", "--rate", "1", "--warmup", "60"], "allowed is a time with its unit"),
    (["--preset", "W1", "--rate", "1", "--policy", "eager,frob"], "--policy: found 'frob', allowed are "),
    (["--preset", "W1", "--rate", "1", "--policy", "eager,"], "--policy: found '', allowed are "),
    (["--preset", "W1", "--rate", "1", "--policy", "cap:0"], "--policy: found 'cap:0', allowed are "),
    (["--preset", "W1", "--rate", "1", "--policy", "off,eager,off"], "--policy names off twice"),
    (["--preset", "W1", "--concurrency", "0"], '--concurrency is "0"; numbers from 1 to 4096'),
    (["--preset", "W1", "--concurrency", "4097"], '--concurrency is "4097"; numbers from 1 to 4096'),
    (["--preset", "W1", "--concurrency", "1,2"], "several numbers in --concurrency need --goodput"),
    (["--preset", "W1", "--concurrency", "auto"], "--concurrency auto needs --goodput"),
    (["--preset", "W1", "--rate", "1", "--prefill-chunk", "0"], "a number from 1 to 65536, best or slo is allowed"),
    (["--preset", "W1", "--rate", "1", "--prefill-chunk", "best"], "--prefill-chunk best needs --goodput"),
    (["--preset", "W1", "--rate", "1", "--prefill-chunk", "slo", "--slo-tpot", "none"], "needs --slo-tpot"),
    (["--preset", "W1", "--rate", "1", "--slo-kind", "D1"], "mean, envelope, gaps or stages is allowed"),
    (["--preset", "W1", "--rate", "1", "--slo-ttft", "2"], "a time such as 50ms or 2s is allowed, or none"),
    (["--preset", "W1", "--rate", "1", "--attainment", "1.1"], "--attainment is 1.1; more than 0 up to 1 is allowed"),
    (["--preset", "W1", "--rate", "1", "--brief"], "--brief is for --goodput"),
    (["--preset", "W1", "--goodput", "--brief", "--report", "x"], "--report shows whole results"),
    (["--preset", "W1", "--goodput", "--seeds", "33"], "--seeds: found '33', allowed is 1 to 32"),
    (["--trace", "t", "--format", "csv"], "auto, azure, mooncake, burstgpt or espalier is allowed"),
    (["--preset", "W1", "--rate", "1", "--frob"], "unknown option --frob")])
def test_wrong_usage(simulate, arguments, words):
    out, err = simulate(*arguments, code=2)
    assert out == "" and words in err


def test_more_than_memory_holds_is_refused(simulate):
    assert "600000000 requests; at most 20000000 are allowed" in simulate("--preset", "W1", "--rate", "1000000", code=1)[1]


def test_a_page_that_cannot_be_written_is_told_before_the_runs(simulate):
    started = time.monotonic()
    out, err = simulate("--preset", "W4", "--goodput", "--report", "/nonexistent/page.html", code=1)
    assert out == "" and "--report /nonexistent/page.html: No such file or directory" in err
    assert time.monotonic() - started < PATIENCE / 4


def test_names_that_are_no_text(document, steady):
    """JSON is UTF-8, file names need not be."""
    name = steady.parent / os.fsdecode(b"b\xff.jsonl")
    steady.rename(name)
    assert document("--trace", name, "--policy", "eager")["trace"]["file"].endswith("b?.jsonl")


def test_help_begins_with_an_example(run):
    for command in "simulate", "profile":
        out, err = run(command, "--help")
        assert out.startswith(f"Example:\n  espalier {command} ") and err == ""


# --- profile

def test_a_recorded_profile_is_read_back(run, document, steady, tmp_path):
    out, _ = run("profile", "--model", "synthetic:tiny", "--record", "mine.json", "--seconds", "1", "--name", "here",
                 "--json")
    profile = json.loads((tmp_path / "mine.json").read_text())
    assert json.loads(out) == profile and profile["name"] == "here" and profile["noise"] > 0
    cost = [us for _, us in profile["gemm"]["points"]]
    assert cost == sorted(cost) and cost[-1] > 0, "a step of more tokens never costs less"
    found = document("--trace", steady, "--profile", "mine.json", "--policy", "eager", "--rate", "0.5")
    assert found["profile"] == "here" and found["policies"][0]["completed"] > 10
    assert {path.name for path in tmp_path.iterdir()} == {"mine.json", steady.name}
    table, err = run("profile", "--model", "synthetic:tiny", "--record", "mine.json", "--seconds", "0.5")
    # What the machine did beside it is not ours to choose: the warning is there if, and only if, the figure is.
    off = float(re.search(r"median error ([\d.]+) %", table)[1])
    poor = "(poor: was the machine busy?)" in json.loads((tmp_path / "mine.json").read_text())["about"]
    assert poor == (f"the median error of the fit is {off:.1f} %; below 10 % is expected" in err)
    assert poor == (off > 10) or off == 10
    assert "tokens in a step" in table and "espalier simulate --profile mine.json" in table


@pytest.mark.parametrize("arguments, code, words", [
    ([], 2, "--model is missing"), (["--model", "synthetic:tiny"], 2, "--record FILE is needed"),
    (["--seconds", "0"], 2, "--seconds is 0; more than 0 up to 86400"), (["--seconds", "x"], 2, "--seconds: found 'x'"),
    (["--name", ""], 2, "a text of 1 to 63 bytes"), (["--name", "x" * 64], 2, "a text of 1 to 63 bytes"),
    (["--frob"], 2, "unknown option --frob"), (["--max-rows", "0"], 2, "--max-rows: found '0'"),
    (["--record", "/nonexistent/p.json"], 1, "--record /nonexistent/p.json: No such file or directory"),
    (["--model", "nothing.gguf"], 1, "nothing.gguf: No such file")])
def test_what_profile_refuses(run, tmp_path, arguments, code, words):
    common = {0: ["--record", "p.json"], 1: arguments}.get(len(arguments), [])
    if len(arguments) == 2 and arguments[0] != "--model":
        common = ["--model", "synthetic:tiny", "--record", "p.json"]
    elif arguments and arguments[-1] == "nothing.gguf":
        common = ["--record", "p.json"]
    elif arguments == ["--frob"]:
        common = []
    out, err = run("profile", *common, *arguments, code=code)
    assert out == "" and words in err and list(tmp_path.iterdir()) == []


def test_an_interrupted_recording_leaves_what_was_there(tmp_path):
    (tmp_path / "p.json").write_text("what was there\n")
    recording = subprocess.Popen([ESPALIER, "profile", "--model", "synthetic:tiny", "--record", "p.json", "--seconds",
                                  "60"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    recording.send_signal(signal.SIGTERM)
    out, _ = recording.communicate(timeout=PATIENCE)
    assert out == b"" and recording.returncode == -signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == {"p.json"}
    assert (tmp_path / "p.json").read_text() == "what was there\n"
