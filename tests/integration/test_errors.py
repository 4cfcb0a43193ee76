"""Every row of the contract's table of errors: the status, and the four fields of the body."""
import json
import os
import signal

import pytest
from espalier_server import SLOW_MODEL, read_until, wait_for

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "x"}]


def error_of(server, method, path, body=None, headers=None):
    """(status, the error, headers)"""
    status, found, text = server.request(method, path, body, headers)
    assert found["Content-Type"] == "application/json" and found["X-Request-Id"]
    answer = json.loads(text)
    assert list(answer) == ["error"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert isinstance(answer["error"]["message"], str) and answer["error"]["message"]
    assert isinstance(answer["error"]["type"], str) and isinstance(answer["error"]["code"], str)
    return status, answer["error"], found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path, fields, status, code, param", [
    (COMPLETIONS, {"prompt": 7}, 400, "invalid_type", "prompt"),
    (COMPLETIONS, {}, 400, "invalid_value", "prompt"),
    (COMPLETIONS, {"prompt": "x", "n": 0}, 400, "invalid_value", "n"),
    (COMPLETIONS, {"prompt": "x", "temperature": "hot"}, 400, "invalid_type", "temperature"),
    (COMPLETIONS, {"prompt": "x", "top_p": 0}, 400, "invalid_value", "top_p"),
    (COMPLETIONS, {"prompt": "x", "max_tokens": 10**6}, 400, "context_length_exceeded", "prompt"),
    (COMPLETIONS, {"prompt": [5] * 5000}, 400, "context_length_exceeded", "prompt"),
    (COMPLETIONS, {"prompt": "x", "model": "nobody"}, 404, "model_not_found", "model"),
    (CHAT, {}, 400, "invalid_value", "messages"),
    (CHAT, {"messages": [{"role": "nobody", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
    (CHAT, {"messages": MESSAGES, "max_tokens": 10**6}, 400, "context_length_exceeded", "messages"),
    (CHAT, {"messages": MESSAGES, "model": "nobody"}, 404, "model_not_found", "model"),
])
def test_rule_1_the_status_is_decided_before_a_stream_begins(server, path, fields, status, code, param,
                                                             stream):
    found, error, _ = error_of(server, "POST", path, json.dumps({**fields, "stream": stream}))
    assert (found, error["code"], error["param"]) == (status, code, param)
    if code == "context_length_exceeded":
        assert "maximum context length is 2048 tokens" in error["message"]


def test_paths_and_methods(server):
    assert error_of(server, "GET", "/nothing")[:1] == (404,)
    assert error_of(server, "POST", "/v1/engines/x/completions", "{}")[1]["code"] == "unknown_path"
    for method, path, allow in (("GET", COMPLETIONS, "POST"), ("POST", "/health", "GET, HEAD"),
                                ("PUT", "/metrics", "GET, HEAD"), ("DELETE", "/tokenize", "POST"),
                                ("OPTIONS", CHAT, "POST"), ("PATCH", "/v1/models", "GET, HEAD")):
        status, error, headers = error_of(server, method, path, "{}")
        assert (status, headers["Allow"], error["code"]) == (405, allow, "method_not_allowed")


def test_sizes(server):
    status, error, _ = error_of(server, "POST", COMPLETIONS, b" " * ((4 << 20) + 1))
    assert (status, error["code"]) == (413, "body_too_large") and "4194304" in error["message"]
    status, error, _ = error_of(server, "GET", "/health", headers={"X": "a" * 65536})
    assert (status, error["code"]) == (431, "header_too_large") and "65536" in error["message"]


def test_refusals_are_counted_by_reason(server):
    def count(code, status):
        return server.metric("espalier_refusals_total", reason=code, status=str(status))

    for code, status, method, path, body in (
            ("invalid_json", 400, "POST", COMPLETIONS, "{"), ("unknown_path", 404, "GET", "/x", None),
            ("model_not_found", 404, "POST", COMPLETIONS, '{"model":"x","prompt":"x"}'),
            ("method_not_allowed", 405, "PUT", "/health", None)):
        before = count(code, status)
        assert error_of(server, method, path, body)[1]["code"] == code
        assert count(code, status) == before + 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_503_with_retry_after_before_a_stream_begins(launch, stream):
    server = launch("--max-rows", "4", "--max-queue", "4", "--context", "2048", model=SLOW_MODEL)
    busy = server.send({"prompt": "x", "n": 4, "max_tokens": 2000, "ignore_eos": True, "stream": True})
    wait_for(lambda: server.metric("espalier_sequences_running") == 4
             and server.metric("espalier_requests_waiting") == 0, "running")
    queued = server.send({"prompt": "x", "n": 4, "max_tokens": 2000, "ignore_eos": True})
    wait_for(lambda: server.metric("espalier_requests_waiting") == 4, "queued")
    for path, fields in ((COMPLETIONS, {"prompt": "x"}), (CHAT, {"messages": MESSAGES})):
        status, error, headers = error_of(server, "POST", path, json.dumps({**fields, "stream": stream}))
        assert (status, error["code"]) == (503, "queue_full") and int(headers["Retry-After"]) >= 1
    busy.close(), queued.close()
    server.wait_idle()
    server.stop()


def test_draining(launch):
    server = launch()
    # All that runs is one answer the client does not read to its end, so the drain cannot be over.
    stream = server.send({"prompt": "x", "max_tokens": 2000, "n": 16, "ignore_eos": True, "stream": True})
    read_until(stream, b"data: ")
    server.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in server.words(), "stopping")
    for method, path, body in (("GET", "/health", None), ("POST", COMPLETIONS, '{"prompt":"x"}'),
                               ("POST", CHAT, json.dumps({"messages": MESSAGES, "stream": True}))):
        status, error, headers = error_of(server, method, path, body)
        assert (status, error["code"]) == (503, "draining")
        assert int(headers["Retry-After"]) >= 1 and headers["Connection"] == "close"
    stream.close()
    assert server.wait() == 0


# --- keys

RIGHT = {"Authorization": "Bearer sk-right"}


def test_keys(launch, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# staff\nsk-right\n  sk-second  \n")
    keys.chmod(0o600)
    server = launch("--api-key-file", str(keys))
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/version"), ("GET", "/nothing"),
                         ("POST", COMPLETIONS), ("POST", CHAT), ("POST", "/tokenize"),
                         ("POST", "/detokenize"), ("DELETE", "/v1/models"), ("OPTIONS", COMPLETIONS)):
        for wrong in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "Basic sk-right"},
                      {"Authorization": "Bearer sk-right x"}, {"Authorization": "Bearer # staff"},
                      {"X-Api-Key": "sk-right"}):
            status, error, headers = error_of(server, method, path, '{"prompt":"x"}', wrong)
            assert (status, error["code"]) == (401, "invalid_api_key")
            assert error["type"] == "authentication_error" and headers["WWW-Authenticate"] == "Bearer"
    assert server.request("GET", "/health")[0] == server.request("HEAD", "/health")[0] == 200
    assert server.request("GET", "/v1/models", headers=RIGHT)[0] == 200
    assert server.request("GET", "/nothing", headers=RIGHT)[0] == 404
    assert server.request("GET", "/metrics", headers=RIGHT)[0] == 200
    for key in ("Bearer sk-right", "bearer sk-second"):
        assert server.post(COMPLETIONS, {"prompt": "x"}, {"Authorization": key})[0] == 200
    server.stop()
    assert "sk-" not in server.words() and "every user" not in server.words()


def test_the_router_decides_who_needs_a_key(launch, tmp_path):
    """No second way to write a path leads past the key."""
    keys = tmp_path / "keys"
    keys.write_text("sk-right")
    server = launch("--api-key-file", str(keys))
    for path in ("/V1/models", "/health/", "//health", "/health/../v1/models", "/v1/models%00", "/health%00",
                 "/v1/models?/health", "/v1/models#/health", "http://a/v1/models", "http://health/v1/models",
                 "/%76%31/models", "/v1%2Fmodels", "/health;/../v1/models", "health", "*"):
        answer = server.raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 "), (path, answer)
    server.stop()


def test_public_metrics(launch, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-right")
    server = launch("--api-key-file", str(keys), "--metrics-public")
    assert server.request("GET", "/metrics")[0] == 200
    assert server.request("GET", "/v1/models")[0] == 401
    server.stop()


def test_a_key_file_that_all_can_read_is_warned_of(launch, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-right")
    keys.chmod(0o644)
    server = launch("--api-key-file", str(keys))
    assert f"{keys} can be read by every user" in server.words()
    server.stop()


def test_keys_from_a_pipe(launch, tmp_path):
    """As a shell's --api-key-file <(secret-tool ...)"""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if os.fork() == 0:
        pipe.write_text("sk-right\n")
        os._exit(0)
    server = launch("--api-key-file", str(pipe))
    assert server.request("GET", "/v1/models")[0] == 401
    assert server.request("GET", "/v1/models", headers=RIGHT)[0] == 200
    server.stop()
    os.wait()
