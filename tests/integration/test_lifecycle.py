"""From the first line to the exit status."""
import signal
import socket
import subprocess
import time

import pytest
from espalier_server import ESPALIER, parse_events, read_until, wait_for


def run(*options):
    return subprocess.run([ESPALIER, "serve", *options], capture_output=True, text=True, timeout=60)


def dechunk(answer):
    """The body of a chunked answer."""
    rest, body = answer.split(b"\r\n\r\n", 1)[1], b""
    while rest:
        size, rest = rest.split(b"\r\n", 1)
        body += rest[:int(size, 16)]
        rest = rest[int(size, 16) + 2:]
    return body.decode()


def test_usage_errors_are_one_line():
    for options, words in ((("--model", "synthetic:tiny", "--policy", "tapir"), "--policy"),
                           (("--model", "synthetic:tiny", "--backend", "cuda"), "--backend cuda"),
                           (("--model", "synthetic:tiny", "--port", "70000"), "--port"),
                           (("--model", "synthetic:tiny", "--max-n", "0"), "--max-n"),
                           ((), "--model")):
        result = run(*options)
        assert result.returncode == 2 and words in result.stderr, result
        assert result.stdout == ""


def test_failures_are_one_line(tmp_path):
    empty = tmp_path / "keys"
    empty.write_text("\n")
    empty.chmod(0o600)
    for options, words in ((("--model", "/nonexistent.gguf"), "/nonexistent.gguf"),
                           (("--model", "synthetic:tiny", "--api-key-file", str(empty)), str(empty)),
                           (("--model", "synthetic:tiny", "--host", "192.0.2.1"), "192.0.2.1")):
        result = run("--port", "0", *options)
        assert result.returncode == 1 and words in result.stderr, result
        assert len(result.stderr.strip().split("\n")) == 1


def test_a_taken_port_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("--model", "synthetic:tiny", "--port", port)
        assert result.returncode == 1
        assert port in result.stderr and "--port" in result.stderr


def test_help_begins_with_an_example():
    result = run("--help")
    assert result.returncode == 0 and "espalier serve --model" in result.stdout.split("\n")[1]


def test_sigterm_lets_eight_streams_finish(launch):
    server = launch()
    clients = [server.send({"prompt": "x", "max_tokens": 300, "ignore_eos": True,
                            "stream": True},
                           close=True) for _ in range(8)]
    idle, half = server.socket(), server.socket()
    half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
    begun = [read_until(client, b"data: ") for client in clients]
    server.signal(signal.SIGTERM)
    for client, data in zip(clients, begun):
        answer = data + read_until(client, b"never in an answer")
        events = parse_events(dechunk(answer))
        assert len(events) == 301 and events[-1]["choices"][0]["finish_reason"] == "length"
        client.close()
    assert server.wait() == 0
    idle.close(), half.close()


def test_while_draining_new_work_is_refused(launch):
    server = launch()
    client = server.send({"prompt": "x", "max_tokens": 1500, "ignore_eos": True, "stream": True})
    read_until(client, b"data: ")
    server.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in server.words(), "stopping")
    status, headers, _ = server.request("POST", "/v1/completions", '{"prompt":"x"}')
    if status:  # the stream may have ended meanwhile only if the machine is very slow
        assert status == 503 and headers["Retry-After"] and headers["Connection"] == "close"
    assert server.request("GET", "/health")[0] == 503
    client.close()
    assert server.wait() == 0


def test_the_drain_timeout_ends_streams_with_an_error_and_done(launch):
    server = launch("--drain-timeout", "50ms")
    client = server.send({"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "n": 16,
                          "stream": True}, close=True)
    data = read_until(client, b"data: ")
    server.signal(signal.SIGTERM)
    events = parse_events(dechunk(data + read_until(client, b"never in an answer")))
    assert events[-1]["error"]["code"] == "draining"
    client.close()
    assert server.wait() == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(launch, first, second):
    server = launch("--drain-timeout", "600s")
    client = server.send({"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "n": 16,
                          "stream": True})
    read_until(client, b"data: ")
    server.signal(first)
    wait_for(lambda: "stopping" in server.words(), "stopping")
    server.signal(second)
    assert server.process.wait(10) == 1
    client.close()


def test_a_signal_while_idle_ends_cleanly(launch):
    server = launch()
    before = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait() == 0 and time.monotonic() - before < 30
