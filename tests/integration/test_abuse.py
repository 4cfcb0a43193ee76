"""Hostile and broken clients. After each the server must be idle and answer as before (conftest.py)."""
import json
import socket
import struct
import time

import pytest
from espalier_server import Server, read_until, wait_for

COMPLETIONS = "/v1/completions"
INTEGERS = [0, -1, 17, 10**9, 2**31, 2**63 - 1, 1.5, "4", True, [], {}]


def refused(server, body, status=400, path=COMPLETIONS):
    found, answer = server.post(path, body)
    assert found == status, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize("value", INTEGERS)
def test_n(server, value):
    assert refused(server, {"prompt": "x", "n": value})["param"] == "n"


@pytest.mark.parametrize("value", [v for v in INTEGERS if v != 17])
def test_max_tokens(server, value):
    error = refused(server, {"prompt": "x", "max_tokens": value})
    assert error["param"] in ("max_tokens", "prompt")


@pytest.mark.parametrize("value", [v for v in INTEGERS if v not in (0, 17)])
def test_logprobs(server, value):
    assert refused(server, {"prompt": "x", "logprobs": value})["param"] == "logprobs"


@pytest.mark.parametrize("name", ["n", "max_tokens", "logprobs", "stop", "seed", "temperature"])
def test_null_is_the_default(server, name):
    server.complete(prompt="x", **{name: None})


@pytest.mark.parametrize("body", [
    b"", b"{", b"nonsense", b"[]", b"7", b"null", b'{"prompt":"a"', b'{"prompt":"a"}}',
    b'{"prompt":"\xff\xfe"}', b'{"prompt":"\xed\xa0\x80"}', b'{"prompt":"\\ud800"}',
    b'{"prompt":"\\udc00\\ud800"}', b'{"prompt":"a","prompt":"b"}', b'{"pro\\u0000mpt":"a"}',
    b'{"prompt":"a","temperature":NaN}', b'{"prompt":"a","temperature":-Infinity}',
    b'{"prompt":"a","temperature":1e999}', b'{"prompt":"a","seed":9223372036854775808}',
    b'{"prompt":"a","seed":-9223372036854775809}', b"\x00" * 100,
    b'{"a":' + b"[" * 257 + b"]" * 257 + b"}", b"[" * 1000000,
])
def test_broken_json(server, body):
    assert refused(server, body)["code"] == "invalid_json"


def test_stop_strings_without_end(server):
    assert refused(server, {"prompt": "x", "stop": ["a"] * 100000})["param"] == "stop"
    assert refused(server, {"prompt": "x", "stop": [""]})["param"] == "stop[0]"
    assert refused(server, {"prompt": "x", "stop": "a" * 1000})["param"] == "stop"


@pytest.mark.parametrize("bias", [{"999999999": 1}, {"-1": 1}, {"x": 1}, {"5": "a"}, {"5": 1e308}])
def test_logit_bias(server, bias):
    assert refused(server, {"prompt": "x", "logit_bias": bias})["param"].startswith("logit_bias")


def test_nul_and_odd_text_in_a_prompt(server):
    for text in ("\x00", "a\x00b", "\ufffe\uffff", "\U0010ffff", "\u202e", "a" * 1500, " " * 1500):
        server.complete(prompt=text, max_tokens=2)


def test_ids_outside_the_vocabulary(server):
    for wrong in (-1, 10**6, 2**31, 2**62):
        assert refused(server, {"prompt": [1, wrong]})["param"] == "prompt[1]"
        refused(server, {"tokens": [wrong]}, path="/detokenize")


def test_too_many_of_everything(server):
    assert refused(server, {"prompt": ["a"] * 17})["param"] == "prompt"
    assert refused(server, {"prompt": ["a"] * 16, "n": 16})["param"] == "n"
    messages = [{"role": "user", "content": "a"}] * 5000
    assert refused(server, {"messages": messages}, path="/v1/chat/completions")["param"] == "messages"


def test_empty_prompts(server):
    for prompt in ("", [], [""], [[]]):
        refused(server, {"prompt": prompt})


def test_a_body_too_large(server):
    error = refused(server, b'{"prompt":"' + b"x" * (5 << 20) + b'"}', 413)
    assert error["code"] == "body_too_large"


def test_a_body_that_is_much_too_large_is_not_read(server):
    client = server.socket()
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n")
    assert b" 413 " in read_until(client, b"\r\n")
    client.close()


def test_chunks_without_end(server):
    client = server.socket()
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with pytest.raises(OSError):
        for _ in range(2000):
            client.sendall(piece)
            time.sleep(0)
    client.close()


def test_a_header_of_64_kib_and_one(server):
    client = server.socket()
    head = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Long: "
    client.sendall(head + b"a" * (65537 - len(head) - 4) + b"\r\n\r\n")
    answer = read_until(client, b'"header_too_large"')
    assert b" 431 " in answer.split(b"\r\n")[0], answer[:200]
    client.close()


def test_a_header_without_end(server):
    client = server.socket()
    data = b""
    try:
        client.sendall(b"GET /health HTTP/1.1\r\n" + b"X-Long: aaaaaaaa\r\n" * 100000)
        data = read_until(client, b"\r\n")
    except OSError:
        pass  # it may close while we still send
    assert not data or b" 431 " in data
    client.close()


def test_a_hundred_and_one_header_fields(server):
    fields = {f"X-{i}": "a" for i in range(101)}
    assert server.request("GET", "/health", headers=fields)[0] == 431


def test_what_is_no_http(server):
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n\r\n\r\n", b"GET\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808"
                 b"\r\n\r\n", b"\x00" * 70000):
        client = server.socket()
        try:
            client.sendall(junk)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
        except OSError:
            pass
        client.close()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("linger", [True, False])
@pytest.mark.parametrize("prompt", [[5] * 1500, "short"])
def test_clients_that_leave(server, stream, linger, prompt):
    """Mid-prefill, mid-decode and mid-stream, by FIN and by RST."""
    body = {"prompt": prompt, "max_tokens": 500, "ignore_eos": True, "stream": stream}
    for wait in (0, 0.01, 0.05):
        client = server.send(body)
        time.sleep(wait)
        if linger:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    server.wait_idle()
    assert server.metric("espalier_kv_blocks", state="held") == 0


def test_a_client_that_leaves_after_one_branch_ended(server):
    client = server.send({"prompt": "x", "n": 4, "max_tokens": 400, "temperature": 2, "stream": True})
    read_until(client, b"data: ")
    client.close()
    server.wait_idle()


def test_clients_that_leave_before_the_header_ends(server):
    for piece in (b"", b"P", b"POST /v1/comp", b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nCont",
                  b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{\"prom"):
        client = server.socket()
        client.sendall(piece)
        client.close()


def test_32_abandoned_requests_are_given_up_at_once(server):
    cancelled = server.metric("espalier_requests_total", outcome="abort")
    clients = [server.send({"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": i % 2 == 0})
               for i in range(32)]
    wait_for(lambda: server.metric("espalier_sequences_running") == 32, "all running")
    generated = server.metric("espalier_generation_tokens_total")
    for client in clients:
        client.close()
    server.wait_idle()
    wait_for(lambda: server.metric("espalier_requests_total", outcome="abort") == cancelled + 32,
             "all cancelled")
    assert server.metric("espalier_generation_tokens_total") - generated < 32 * 1000


def test_pipelined_requests_are_answered_in_order(server):
    body = json.dumps({"prompt": "x", "max_tokens": 2, "temperature": 0}).encode()
    one = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    client = server.socket()
    client.sendall(one * 5 + last)
    answer = read_until(client, b"never in an answer")
    assert answer.count(b"HTTP/1.1 200 OK") == 6
    client.close()


def test_idle_and_slow_connections_cost_others_nothing(launch):
    server = launch("--body-timeout", "2s", "--max-connections", "600")
    answer = server.complete(prompt="x", temperature=0)
    idle = [server.socket() for _ in range(300)]
    slow = [server.socket() for _ in range(50)]
    for client in slow:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{")
    assert server.complete(prompt="x", temperature=0)["choices"] == answer["choices"]
    wait_for(lambda: server.metric("espalier_connections") < 310, "slow bodies cut off")
    for client in idle + slow:
        client.close()
    server.wait_idle()
    server.stop()


def test_more_connections_than_allowed_wait_for_idle_ones_to_go(launch):
    server = launch("--max-connections", "64")
    idle = [server.socket() for _ in range(200)]
    server.complete(prompt="x")
    for client in idle:
        client.close()
    server.stop()


def test_300_at_once_are_complete_or_refused(launch):
    server = launch("--max-queue", "16", "--max-rows", "8")
    clients = [server.send({"prompt": "x", "max_tokens": 8, "ignore_eos": True, "stream": True},
                           close=True) for _ in range(300)]
    complete = refusals = 0
    for client in clients:
        answer = read_until(client, b"never in an answer")
        client.close()
        if answer.startswith(b"HTTP/1.1 200 "):
            assert answer.count(b"data: ") == 8 + 2 and b"data: [DONE]\n\n" in answer
            complete += 1
        else:
            assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer
            assert b'"queue_full"' in answer and b"data: " not in answer
            refusals += 1
    assert complete >= 8 and complete + refusals == 300
    server.wait_idle()
    server.stop()


def test_keys(launch, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# staff\nsk-right\n")
    server = launch("--api-key-file", str(keys))
    right = {"Authorization": "Bearer sk-right"}
    for path in ("/v1/models", "/metrics", "/version", "/nothing"):
        status, headers, text = server.request("GET", path)
        assert status == 401 and json.loads(text)["error"]["code"] == "invalid_api_key"
    assert server.request("GET", "/health")[0] == 200
    assert server.request("GET", "/v1/models", headers=right)[0] == 200
    assert server.request("GET", "/nothing", headers=right)[0] == 404
    assert server.post(COMPLETIONS, {"prompt": "x"})[0] == 401
    assert server.post(COMPLETIONS, {"prompt": "x"}, {"Authorization": "Bearer sk-wrong"})[0] == 401
    assert server.post(COMPLETIONS, {"prompt": "x"}, right)[0] == 200
    for path in ("/V1/models", "/health/", "//health", "/health/../v1/models", "/v1/models%00"):
        assert server.request("GET", path)[0] in (400, 401)
    server.stop()
    public = launch("--api-key-file", str(keys), "--metrics-public")
    assert public.request("GET", "/metrics")[0] == 200
    public.stop()


def test_wrong_methods_name_the_right_one(server):
    for method, path, allow in (("GET", COMPLETIONS, "POST"), ("POST", "/health", "GET, HEAD"),
                                ("PUT", "/metrics", "GET, HEAD"), ("DELETE", "/tokenize", "POST")):
        status, headers, text = server.request(method, path, "{}")
        assert (status, headers["Allow"]) == (405, allow)
        assert json.loads(text)["error"]["code"] == "method_not_allowed"
