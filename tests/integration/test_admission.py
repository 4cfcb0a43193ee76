"""--admission refuse: 429 with Retry-After before any stream, from the server's own predictor on a real model."""
import json
import random
import subprocess

import pytest
from espalier_server import ESPALIER, SLOW_MODEL, read_until, wait_for

COMPLETIONS = "/v1/completions"
PROMPT, BACKLOG = 200, 30


def prompt(seed):
    """Ids that no other seed shares, so that nothing is cached."""
    rng = random.Random(seed)
    return [rng.randrange(100, 400) for _ in range(PROMPT)]


def body(seed, ttft_ms, **more):
    return {"prompt": prompt(seed), "max_tokens": 2, "ignore_eos": True, "timings": True, "slo": {"ttft_ms": ttft_ms}, **more}


def refuses(server, fields, ttft_ms):
    status, headers, text = server.request("POST", COMPLETIONS, json.dumps(fields))
    assert status == 429, text
    assert headers["Content-Type"] == "application/json" and 1 <= int(headers["Retry-After"]) <= 60
    error = json.loads(text)["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "ttft_unattainable", "slo.ttft_ms")
    assert f"within {ttft_ms / 1e3:.4g} s" in error["message"]


def test_who_would_be_late_is_refused_while_it_is_so(launch):
    server = launch("--admission", "refuse", "--slo-ttft", "none", "--slo-tpot", "none", "--prefill-chunk", "64",
                    model=SLOW_MODEL)
    assert "--admission refuse and no --slo-ttft" in server.words()
    alone = [server.post(COMPLETIONS, body(seed, "none"))[1]["timings"]["ttft_ms"] for seed in (1, 2, 3)]
    limit = 6 * max(alone)  # and behind all of BACKLOG it would take 30 times
    busy = [server.send(body(100 + seed, "none", stream=True)) for seed in range(BACKLOG)]
    wait_for(lambda: server.metric("espalier_requests_waiting") + server.metric("espalier_sequences_running") >= BACKLOG / 2,
             "a backlog")
    for more in ({}, {"stream": True}, {"n": 3}, {"prompt": [prompt(7), prompt(8)]}):
        refuses(server, body(4, limit, **more), limit)
    assert server.metric("espalier_refusals_total", reason="ttft_unattainable", status="429") == 4
    for client in busy:
        assert b"[DONE]" in read_until(client, b"[DONE]")
        client.close()
    server.wait_idle()
    for seed, more in enumerate(({}, {"n": 3}, {"prompt": [prompt(17), prompt(18)]})):
        status, answer = server.post(COMPLETIONS, body(20 + seed, limit, **more))
        assert status == 200, answer
    server.stop()


def test_a_limit_that_no_request_can_keep_is_refused_on_an_idle_server(launch):
    server = launch("--admission", "refuse", "--slo-ttft", "1ms", "--slo-tpot", "none", model=SLOW_MODEL)
    assert server.post(COMPLETIONS, body(1, "none"))[0] == 200
    refuses(server, {"prompt": prompt(2), "max_tokens": 2}, 1)
    assert server.post(COMPLETIONS, {"prompt": prompt(3), "max_tokens": 0, "echo": True})[0] == 200  # no first token
    server.stop()


def test_queue_is_the_default(launch):
    server = launch("--slo-ttft", "1ms", model=SLOW_MODEL)
    assert server.post(COMPLETIONS, {"prompt": prompt(2), "max_tokens": 2})[0] == 200
    server.stop()


@pytest.mark.parametrize("command", [("serve", "--model", "synthetic:tiny"), ("simulate", "--preset", "W1", "--rate", "1")])
def test_another_word_is_wrong_usage(command):
    done = subprocess.run([ESPALIER, *command, "--admission", "maybe"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--admission: found 'maybe'; queue or refuse is allowed" in done.stderr


def test_simulated_refusals_count_as_missed():
    def run(admission, rate, policy="eager"):
        done = subprocess.run([ESPALIER, "simulate", "--preset", "W8", "--rate", str(rate), "--duration", "120s", "--policy",
                               policy, "--admission", admission, "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["policies"][0]

    assert run("refuse", 0.5)["refused"] == 0
    queued, refused = run("queue", 4), run("refuse", 4)
    assert queued["refused"] == 0 and "admission" not in queued
    assert refused["admission"] == "refuse"
    assert refused["refused"] == sum(reason["count"] for reason in refused["reasons"] if reason["reason"] == "too late") > 0
    assert refused["completed"] + refused["refused"] == refused["requests"] == queued["requests"]
    assert refused["slo_attainment"] > queued["slo_attainment"]
    assert run("refuse", 4, "taper")["refused"] > 0


def test_simulate_refuses_in_an_open_loop_only():
    done = subprocess.run([ESPALIER, "simulate", "--preset", "W1", "--concurrency", "4", "--admission", "refuse"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "open loop" in done.stderr
