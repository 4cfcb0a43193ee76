"""Hostile fields and broken JSON. After each the server must be idle and answer as before (conftest.py)."""
import pytest

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
