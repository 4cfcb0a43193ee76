"""The official openai client against the real server, and what a raw client sees."""
import concurrent.futures, http.client, json, os, socket
import openai
import pytest
from conftest import DEFAULT_MODEL

ABUSE = [
    ("n", 0), ("n", -1), ("n", 10**9), ("n", 2**63), ("n", 1.5), ("n", "4"), ("max_tokens", -1), ("max_tokens", 10**12), ("max_tokens", 1.5),
    ("max_tokens", "7"), ("temperature", -1), ("temperature", "hot"), ("top_p", 0), ("top_p", 2), ("min_p", -0.1), ("stop", [""]), ("stop", ["x"] * 100000),
    ("seed", 2**70), ("stream", "yes"), ("prompt", None), ("prompt", []), ("prompt", [-1]), ("prompt", [10**9]), ("prompt", 7), ("stop", 5),
]


def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def post(server, body, path="/v1/completions", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})})
    except BrokenPipeError:
        pass  # refused before the whole body was sent: the answer is there to read
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def greedy(server, **more):
    status, body, _ = post(server, {"prompt": "The same answer", "max_tokens": 12, "temperature": 0, "return_token_ids": True, **more})
    assert status == 200, body
    return json.loads(body)["choices"][0]["token_ids"]


def error_of(body):
    error = json.loads(body)["error"]
    assert set(error) >= {"message", "type", "param", "code"} and error["message"]
    return error


def test_completions_and_chat(tiny):
    api = client(tiny)
    model = api.models.list().data[0].id
    answer = api.completions.create(model=model, prompt="hello", max_tokens=8, temperature=0)
    assert answer.usage.completion_tokens <= 8 and answer.choices[0].finish_reason in ("length", "stop")
    pieces = list(api.completions.create(model=model, prompt="hello", max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in pieces if c.choices) == answer.choices[0].text
    assert pieces[-1].choices == [] and pieces[-1].usage.completion_tokens == answer.usage.completion_tokens
    messages = [{"role": "user", "content": "hello"}]
    chat = api.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)
    stream = list(api.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in stream) == chat.choices[0].message.content
    assert stream[0].choices[0].delta.role == "assistant" and stream[-1].choices[0].finish_reason


def test_n_and_seed(tiny):
    api = client(tiny)
    model = api.models.list().data[0].id
    first = api.completions.create(model=model, prompt="abc", max_tokens=10, n=3, seed=5, temperature=1)
    again = api.completions.create(model=model, prompt="abc", max_tokens=10, n=3, seed=5, temperature=1)
    assert [c.text for c in first.choices] == [c.text for c in again.choices]
    assert len({c.text for c in first.choices}) > 1 and first.usage.completion_tokens == 30


def test_errors_have_the_contracts_shape(tiny):
    before = greedy(tiny)
    for field, value in ABUSE:
        status, body, _ = post(tiny, {"prompt": "x", "max_tokens": 2, field: value})
        assert status in (400, 413), (field, value, status, body[:200])
        error_of(body)
    for body in (b"{", b"[]", b"null", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"[" * 257 + b"]" * 257, b""):
        status, answer, _ = post(tiny, body)
        assert status == 400, (body[:40], status)
        error_of(answer)
    assert post(tiny, {"prompt": "x", "model": "nobody"})[0] == 404
    assert post(tiny, {}, path="/v1/nothing")[0] == 404
    assert post(tiny, b"x" * (64 << 20))[0] == 413
    assert post(tiny, {"prompt": "x"}, headers={"X-Long": "y" * (64 * 1024 + 1)})[0] == 431
    status, body, _ = post(tiny, {"prompt": [5] * 100000, "max_tokens": 1})
    assert status == 400 and "maximum context length is" in error_of(body)["message"]
    assert greedy(tiny) == before
    assert tiny.idle()


def test_null_means_default_and_unknown_fields_are_ignored(tiny):
    fields = dict.fromkeys(["n", "stop", "seed", "top_p", "top_k", "min_p", "stream", "stream_options", "user"], None)
    assert greedy(tiny, nonsense={"a": 1}, **fields) == greedy(tiny)


def test_a_client_that_leaves_frees_its_blocks(tiny):
    before = greedy(tiny)
    for _ in range(5):
        body = json.dumps({"prompt": [7] * 200, "max_tokens": 250, "stream": True, "ignore_eos": True}).encode()
        with socket.create_connection(("127.0.0.1", tiny.port)) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            s.recv(200)
    assert tiny.idle() and greedy(tiny) == before


def test_the_same_bytes_in_any_company(start):
    def fresh(*options):
        return start("synthetic:tiny", *options)

    alone = greedy(fresh())
    for options in (("--threads", "1"), ("--threads", "2"), ("--prefill-chunk", "16"), ("--prefill-chunk", "64"), ("--prefill-chunk", "512")):
        server = fresh(*options)
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            others = [pool.submit(post, server, {"prompt": [i + 3] * (i * 5 + 1), "max_tokens": 20, "seed": i}) for i in range(31)]
            mine = pool.submit(greedy, server)
            assert mine.result() == alone, options
            assert all(other.result()[0] == 200 for other in others)


def test_sigterm_lets_streams_finish(start):
    server = start()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, server, {"prompt": "x", "max_tokens": 200, "stream": True, "ignore_eos": True})
        while server.metric("espalier_active_requests") == 0 and not running.done():
            pass
        code, log = server.stop()
        status, body, _ = running.result()
    assert code == 0 and status == 200 and body.endswith(b"data: [DONE]\n\n"), log


def test_keys(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-1\nsecret-2\n")
    server = start("synthetic:tiny", "--api-key-file", str(keys))
    assert post(server, {"prompt": "x"})[0] == 401
    assert post(server, {"prompt": "x"}, headers={"Authorization": "Bearer wrong"})[0] == 401
    assert post(server, {"prompt": "x"}, headers={"Authorization": "Bearer secret-2"})[0] == 200


@pytest.mark.skipif(not os.path.exists(DEFAULT_MODEL), reason=f"{DEFAULT_MODEL} is not there")
def test_the_default_model_answers(start):
    server = start(DEFAULT_MODEL)
    api = client(server)
    chat = api.chat.completions.create(model=api.models.list().data[0].id, max_tokens=20, temperature=0,
                                       messages=[{"role": "user", "content": "What is the capital of France?"}])
    assert "Paris" in chat.choices[0].message.content
