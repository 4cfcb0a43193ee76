"""docs/limits.md, row by row: its options and defaults are those of --help, and each small value is met with
the answer that the table promises."""
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from espalier_server import ESPALIER, SLOW_MODEL, Server, parse_events, read_until, wait_for

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
LONG = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True}


# --- the table


def table():
    """{option: (default, answer)} of docs/limits.md; rows with two options give two."""
    text = (pathlib.Path(os.environ["ESPALIER_ROOT"]) / "docs" / "limits.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")
            if line.startswith("|") and not line.startswith(("| limit", "| ---"))]
    assert rows and all(len(row) == 5 and row[2] and row[4] for row in rows), "an option and a reason each"
    return {option: (row[1], row[3]) for row in rows for option in re.findall(r"`(--[a-z-]+)`", row[2])}


def help_text():
    return subprocess.run([ESPALIER, "serve", "--help"], capture_output=True, text=True, check=True).stdout


def test_every_limit_of_the_table_is_an_option_with_that_default():
    options = help_text()
    for option, (default, _) in table().items():
        found = re.search(rf"\n  {option} .*\n", options)
        assert found, f"{option} is no option"
        if not default.startswith("the model's"):
            assert re.search(rf"default (and most: )?{re.escape(default.replace(' ', ''))}\b", found[0]), (
                option, default, found[0])


def test_every_limit_of_help_is_in_the_table():
    limits = help_text().split("\nLimits of one request")[1]
    named = re.findall(r"\n  (--[a-z-]+) ", limits)
    assert len(named) > 20
    assert set(named) - {"--help"} <= set(table())


# --- one request's


def refusal(server, path, fields, status=400):
    found, answer = server.post(path, fields)
    assert found == status, answer
    return answer["error"]


@pytest.fixture(scope="module")
def small():
    """A server whose limits are all small."""
    server = Server("--max-body", "2000", "--max-header", "1KiB", "--max-headers", "10", "--max-json-depth", "8",
                    "--max-n", "3", "--max-prompts", "2", "--max-sequences", "4", "--max-stages", "2",
                    "--max-branches", "3", "--max-messages", "2",
                    "--max-stops", "2", "--max-stop-bytes", "4", "--max-stop-ids", "2", "--max-logit-bias",
                    "2", "--max-logprobs", "2", "--max-logprob-total", "30", "--context", "64")
    yield server
    server.wait_idle()
    server.stop()


X = {"prompt": "x", "max_tokens": 4}


@pytest.mark.parametrize("path, right, wrong, param, words", [
    (COMPLETIONS, {**X, "n": 3}, {**X, "n": 4}, "n", "3"),
    (COMPLETIONS, {**X, "prompt": ["a", "b"]}, {**X, "prompt": ["a", "b", "c"]}, "prompt", "at most 2"),
    (COMPLETIONS, {**X, "prompt": ["a", "b"], "n": 2}, {**X, "prompt": ["a", "b"], "n": 3}, "n", "at most 4"),
    (CHAT, {"messages": [{"role": "user", "content": "x"}] * 2, "max_tokens": 1},
     {"messages": [{"role": "user", "content": "x"}] * 3, "max_tokens": 1}, "messages", "1 to 2"),
    (COMPLETIONS, {**X, "stop": ["a", "b"]}, {**X, "stop": ["a", "b", "c"]}, "stop", "at most 2"),
    (COMPLETIONS, {**X, "stop": "abcd"}, {**X, "stop": "abcde"}, "stop", "1 to 4"),
    (COMPLETIONS, {**X, "stop_token_ids": [1, 2]}, {**X, "stop_token_ids": [1, 2, 3]}, "stop_token_ids",
     "at most 2"),
    (COMPLETIONS, {**X, "logit_bias": {"1": 1, "2": 1}}, {**X, "logit_bias": {"1": 1, "2": 1, "3": 1}},
     "logit_bias", "at most 2"),
    (COMPLETIONS, {**X, "logprobs": 2}, {**X, "logprobs": 3}, "logprobs", "2"),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 2,
            "max_tokens": 4},
     {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 3, "max_tokens": 4},
     "top_logprobs", "2"),
    (COMPLETIONS, {**X, "logprobs": 2, "max_tokens": 9}, {**X, "logprobs": 2, "max_tokens": 10}, "logprobs",
     "at most 30"),
    (COMPLETIONS, {**X, "prompt": [5] * 60}, {**X, "prompt": [5] * 61}, "prompt",
     "maximum context length is 64 tokens"),
    (COMPLETIONS, {**X, "x": [[[[[[[1]]]]]]]}, {**X, "x": [[[[[[[[1]]]]]]]]}, None, "deeper than 8"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_small_limits(small, path, right, wrong, param, words):
    status, answer = small.post(path, right)
    assert status == 200, answer
    error = refusal(small, path, wrong)
    assert error["param"] == param and words in error["message"], error


SERIAL = {"type": "serial"}


@pytest.mark.parametrize("fields, param, words", [
    ({"stages": [SERIAL] * 3}, "stages", "1 to 2"),
    ({"stages": [SERIAL, {"type": "parallel", "branches": [{}] * 4}]}, "stages[1].branches", "1 to 3"),
    ({"stages": [{"type": "parallel", "branches": [{}] * 3}, {"type": "parallel", "branches": [{}] * 2}]}, "stages",
     "5 sequences"),
])
def test_small_limits_of_stages(small, fields, param, words):
    error = refusal(small, COMPLETIONS, {**X, **fields})
    assert error["code"] == "invalid_value" and error["param"] == param and words in error["message"], error


def test_small_bodies_and_headers(small):
    body = json.dumps({"prompt": "x", "max_tokens": 1})
    assert small.post(COMPLETIONS, body + " " * (2000 - len(body)))[0] == 200
    assert refusal(small, COMPLETIONS, body + " " * (2001 - len(body)), 413)["code"] == "body_too_large"
    line = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: "
    for size, status in ((1024, b" 200 "), (1025, b" 431 ")):
        assert status in small.raw(line + b"a" * (size - len(line) - 4) + b"\r\n\r\n").split(b"\r\n")[0]
    for count, status in ((10, b" 200 "), (11, b" 431 ")):
        fields = b"Host: a\r\nConnection: close\r\n" + b"X: a\r\n" * (count - 2)
        assert status in small.raw(b"GET /health HTTP/1.1\r\n" + fields + b"\r\n").split(b"\r\n")[0]


# --- everybody's together


def test_answers_together(launch):
    """16 sequences of 2,000 tokens are 896,000 bytes and a little: two such answers fit, however slowly
    they are read."""
    server = launch("--max-answers", "1900KiB", "--max-n", "40")
    error = refusal(server, COMPLETIONS, {**LONG, "n": 40})
    assert error["param"] == "max_tokens" and "1945600" in error["message"]
    slow = [server.send({**LONG, "n": 16, "stream": True}) for _ in range(2)]
    for client in slow:
        read_until(client, b"data: ")
    status, headers, text = server.request("POST", COMPLETIONS, json.dumps({**LONG, "n": 16, "stream": True}))
    assert status == 503 and headers["Retry-After"] and json.loads(text)["error"]["code"] == "queue_full"
    assert server.complete(prompt="x")["choices"], "a small one still fits"
    for client in slow:
        client.close()
    server.wait_idle()
    again = server.send({**LONG, "n": 16, "stream": True})
    assert b" 200 " in read_until(again, b"\r\n")
    again.close()
    server.stop()


def test_bodies_together(launch):
    """The limit is at least two of the largest body, so that one slow client cannot shut out all."""
    server = launch("--max-body", "1MiB", "--max-bodies", "1")
    slow = [server.socket() for _ in range(2)]
    for client in slow:
        client.sendall(HEAD + b"Content-Length: 1048576\r\n\r\n" + b" " * 1040000)
    wait_for(lambda: server.metric("espalier_body_bytes") == 2080000, "read")
    status, headers, text = server.request("POST", COMPLETIONS, b'{"prompt":"x"}' + b" " * 100000)
    assert status == 503 and headers["Retry-After"] and json.loads(text)["error"]["code"] == "queue_full"
    for client in slow:
        client.close()
    wait_for(lambda: server.post(COMPLETIONS, b'{"prompt":"x"}' + b" " * 1000000)[0] == 200, "room again")
    server.stop()


def test_requests_waiting_to_be_parsed(launch):
    """A front-end thread is busy for a while with prompts of 4 MB; one more may wait."""
    server = launch("--max-pending", "1")
    body = json.dumps({"prompt": "word " * 800000}).encode()
    clients = [server.send(body, close=True) for _ in range(12)]
    answers = [read_until(client, b"never in an answer") for client in clients]
    assert {answer[9:12] for answer in answers} == {b"400", b"503"}
    for answer in answers:
        assert b"maximum context length" in answer or b"\r\nRetry-After: " in answer and b"queue_full" in answer
    for client in clients:
        client.close()
    server.wait_idle()
    server.stop()


def test_connections(launch):
    """The 65th waits; idle ones make room for it after a second."""
    server = launch("--max-connections", "64")
    idle = [server.socket() for _ in range(100)]
    assert server.metric("espalier_connections") <= 65
    for client in idle:
        client.close()
    server.stop()


# --- times


def closed_after(client):
    """Seconds until the server closed; the bytes that came before."""
    begin, data = time.monotonic(), b""
    try:
        data = read_until(client, b"never in an answer")
    except ConnectionResetError:
        pass
    return time.monotonic() - begin, data


def test_times(launch):
    """Each of the three, met without the others: an idle connection, half a body, an answer not taken."""
    server = launch("--idle-timeout", "1s", "--body-timeout", "60s", "--stall-timeout", "60s")
    with server.socket() as client:
        assert closed_after(client)[1] == b""
    with server.socket() as client:
        client.sendall(HEAD)
        assert closed_after(client)[1] == b""
    server.stop()
    server = launch("--idle-timeout", "60s", "--body-timeout", "500ms", "--stall-timeout", "60s")
    with server.socket() as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert closed_after(client)[1] == b""
    server.stop()
    server = launch("--idle-timeout", "60s", "--body-timeout", "60s", "--stall-timeout", "1s")
    client = server.deaf({**LONG, "n": 8, "stream": True})
    wait_for(lambda: server.metric("espalier_disconnects_total") == 1, "given up")
    client.close()
    server.stop()


def test_a_long_answer_is_no_stalled_one(launch):
    """No client is cut off because the model needs longer than a timeout for its first token; the prompt grows
    until it does."""
    server = launch("--idle-timeout", "1s", "--body-timeout", "1s", "--stall-timeout", "1s", "--prefill-chunk",
                    "1", "--context", "8192", model=SLOW_MODEL)
    length, took = 60, 0
    while took < 1.5:
        length *= 2
        started = time.monotonic()
        status, _, text = server.request("POST", COMPLETIONS, json.dumps(
            {"prompt": [5 + length] * length, "max_tokens": 4, "ignore_eos": True, "stream": True}))
        took = time.monotonic() - started
        assert status == 200 and len(parse_events(text)) == 5
    server.stop()
