"""SLOs in serving: --slo-ttft and --slo-tpot, a request's own, `timings.slo_met`, and the counters by class."""
import json
import signal
import subprocess

import pytest
from espalier_server import ESPALIER

TINY = ("--model", "synthetic:tiny", "--threads", "1", "--port", "0")
STAGES = [{"type": "serial", "max_tokens": 2},
          {"type": "parallel", "max_tokens": 3, "branches": [{"prompt": "A"}, {"prompt": "B"}]},
          {"type": "serial", "prompt": "C", "max_tokens": 4}]
LIMITS = {"ttft_ms": 1e6, "tpot_ms": 1e6}  # nobody misses them
HOPELESS = {"ttft_ms": 0.001, "tpot_ms": 0.001}  # everybody does


def ask(server, headers=None, **fields):
    status, answer = server.post("/v1/completions", {"prompt": "A garden", "timings": True, "ignore_eos": True, **fields},
                                 headers)
    assert status == 200, answer
    return answer


def met(*arguments, **more):
    return ask(*arguments, **more)["timings"]["slo_met"]


def counts(server):
    """{(ttft, tpot, shape, outcome): requests, (ttft, tpot, shape): tokens}, those that are not 0."""
    found = {}
    for (name, labels), value in server.metrics().items():
        labels = dict(labels)
        key = tuple(labels.get(label) for label in ("ttft_ms", "tpot_ms", "shape", "outcome"))
        if name == "espalier_slo_requests_total" and value:
            found[key] = value
        elif name == "espalier_slo_met_tokens_total" and value:
            found[key[:3]] = value
    return found


def test_the_default_is_printed_and_judged(launch):
    server = launch()
    assert "SLO of requests that name none: TTFT 2000 ms (auto), TPOT 50 ms (auto" in server.words()
    assert met(server, max_tokens=3) in (True, False)
    assert sum(value for key, value in counts(server).items() if key[:3] == ("2000", "50", "serial") and len(key) == 4) == 1
    server.stop()


def test_every_request_by_its_own_limits_and_every_counter_exact(launch):
    server = launch("--slo-ttft", "1000s", "--slo-tpot", "none")
    assert "SLO of requests that name none: TTFT 1000000 ms, no TPOT" in server.words()
    assert counts(server) == {}
    assert met(server, max_tokens=5) is True
    assert met(server, max_tokens=7, slo=None) is True
    assert met(server, max_tokens=4, slo=LIMITS) is True
    assert met(server, max_tokens=4, n=3, slo=LIMITS) is True
    assert met(server, prompt=["a", "b"], max_tokens=4, slo=LIMITS) is True
    assert met(server, stages=STAGES, slo=LIMITS) is True
    assert met(server, max_tokens=4, slo=HOPELESS) is False
    assert met(server, stages=STAGES, slo=HOPELESS) is False
    assert met(server, max_tokens=1, slo={"tpot_ms": 0.001}) is True
    assert met(server, max_tokens=4, slo={"ttft_ms": "none"}) is None
    assert met(server, {"x-slo-ttft-ms": "none"}, max_tokens=4, slo=LIMITS | {"tpot_ms": None}) is None
    assert met(server, {"x-slo-ttft-ms": "0.001"}, max_tokens=4, slo=LIMITS) is False
    assert met(server, max_tokens=0, echo=True, slo=HOPELESS) is None
    assert counts(server) == {
        ("1000000", "none", "serial", "met"): 2, ("1000000", "none", "serial"): 12,
        ("1000000", "1000000", "serial", "met"): 2, ("1000000", "1000000", "serial"): 12,
        ("1000000", "1000000", "branching", "met"): 2, ("1000000", "1000000", "branching"): 24,
        ("0.001", "0.001", "serial", "missed"): 1, ("0.001", "0.001", "branching", "missed"): 1,
        ("1000000", "0.001", "serial", "met"): 1, ("1000000", "0.001", "serial"): 1,
        ("0.001", "1000000", "serial", "missed"): 1,
    }
    server.stop()


def test_streams_and_chats_too(launch):
    server = launch("--slo-ttft", "none", "--slo-tpot", "none")
    ends = [event for event in server.events(prompt="A", max_tokens=6, ignore_eos=True, timings=True, slo=LIMITS)
            if "timings" in event]
    assert [event["timings"]["slo_met"] for event in ends] == [True]
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "timings": True, "ignore_eos": True}
    status, answer = server.post("/v1/chat/completions", chat | {"slo": HOPELESS})
    assert status == 200 and answer["timings"]["slo_met"] is False
    status, answer = server.post("/v1/chat/completions", chat)
    assert status == 200 and answer["timings"]["slo_met"] is None
    assert counts(server) == {("1000000", "1000000", "serial", "met"): 1, ("1000000", "1000000", "serial"): 6,
                              ("0.001", "0.001", "serial", "missed"): 1}
    server.stop()


def test_clients_cannot_grow_the_metrics(launch):
    server = launch()

    def lines():
        return server.request("GET", "/metrics")[2].count("\n")

    at_first = lines()
    for i in range(60):
        ask(server, {"x-slo-ttft-ms": f"{500000 + i}.125", "x-slo-tpot-ms": "1e6"}, max_tokens=1)
    full = lines()
    assert full == at_first + 8 * 8  # the default has its own from the start; seven more, and "other"
    for i in range(100):
        ask(server, {"x-slo-ttft-ms": f"{600000 + i}", "x-slo-tpot-ms": "1e6"}, max_tokens=1)
    assert lines() == full
    found = counts(server)
    assert found[("other", "other", "serial", "met")] == 53 + 100 and len({key[:2] for key in found}) == 8
    server.stop()


@pytest.mark.parametrize("slo, words", [
    ({"ttft_ms": "soon"}, 'slo.ttft_ms must be a number of milliseconds or "none", not a string'),
    ({"tpot_ms": 0}, 'slo.tpot_ms must be a number of milliseconds between 0.001 and 1e+09 (or "none"), not 0'),
    ({"tpot_ms": True}, "slo.tpot_ms"), ({"ttft_ms": ["none"]}, "slo.ttft_ms"), ("none", "slo must be an object")])
def test_a_wrong_slo_is_refused(server, slo, words):
    before = counts(server)
    status, answer = server.post("/v1/completions", {"prompt": "A", "slo": slo})
    assert status == 400 and words in answer["error"]["message"]
    assert counts(server) == before


@pytest.mark.parametrize("option", ["--slo-ttft", "--slo-tpot"])
@pytest.mark.parametrize("word", ["fast", "50", "0", "-1ms", "", "Auto", "2000000s"])
def test_what_is_no_limit_is_said_before_anything_is_loaded(option, word):
    done = subprocess.run([ESPALIER, "serve", *TINY, option, word], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stdout == ""
    assert f"{option}: found '{word}', allowed are auto, none, or a time" in done.stderr


@pytest.mark.parametrize("options, slo", [
    ((), {"ttft_ms": 2000, "tpot_ms": 50}),
    (("--slo-ttft", "250ms", "--slo-tpot", "none"), {"ttft_ms": 250, "tpot_ms": None}),
    (("--slo-ttft", "none", "--slo-tpot", "1500us"), {"ttft_ms": None, "tpot_ms": 1.5})])
def test_the_document_has_it(options, slo):
    process = subprocess.Popen([ESPALIER, "serve", *TINY, "--json", *options], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    try:
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, text
            text += line
        found = json.loads(text)["slo"]
        single = found.pop("single_row_step_ms")
        assert single is None or single > 0
        assert found == slo
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
