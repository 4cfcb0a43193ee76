"""Hostile fields and broken JSON. After each the server must be idle and answer as before (conftest.py)."""
import json

import pytest
from espalier_server import read_until

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


CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("value", [v for v in INTEGERS if v not in (0, True)])
def test_the_chats_logprobs(server, value):
    error = refused(server, {"messages": MESSAGES, "logprobs": value}, path=CHAT)
    assert error["param"] == "logprobs"


@pytest.mark.parametrize("value", [-1, 21, 10**9, 2**31, 2**63 - 1, 1.5, "4", True, [], {}])
def test_the_chats_top_logprobs(server, value):
    error = refused(server, {"messages": MESSAGES, "logprobs": True, "top_logprobs": value}, path=CHAT)
    assert error["param"] == "top_logprobs"


@pytest.mark.parametrize("name, wrong", [
    ("max_completion_tokens", [0, -1, 10**9, 2**31, 2**63 - 1, 1.5, "4", True, [], {}]),
    ("min_tokens", [-1, 17, 10**9, 2**31, 2**63 - 1, 1.5, "4"]),
    ("top_k", [-2, 2**31, 2**63 - 1, 1.5, "4", [1]]),
    ("cache_salt", ["x" * 257, 5, True, [], {}]),
    ("priority", [2**31, -2**31 - 1, 2**63 - 1, 1.5, "high"]),
    ("seed", [1.5, "4", True, [], {}, 1e300]),
    ("temperature", [-0.1, 101, 1e308, "hot", [], True]), ("top_p", [0, -1, 1.1, 1e308, "1"]),
    ("min_p", [-0.1, 1.1, "0"]), ("repetition_penalty", [0, -1, 101, 1e308, "1"]),
    ("presence_penalty", [-2.1, 2.1, 1e308, "0"]), ("frequency_penalty", [-2.1, 2.1, 1e308, "0"]),
    ("stop", [7, {}, True, [7], [None], [["a"]], [""], ""]),
    ("stop_token_ids", [7, "7", {}, [-1], [10**6], [2**63 - 1], [1.5], ["4"], [None], [True], [7] * 100000]),
    ("logit_bias", [7, "x", [], [1], True]),
    ("ignore_eos", [1, "true", []]), ("stream", [1, "true", []]), ("echo", [1, "true", []]),
    ("return_token_ids", [1]), ("include_stop_str_in_output", [1]), ("add_special_tokens", ["no"]),
    ("stream_options", [7, "x", [], {"include_usage": True}]), ("model", [7, [], {}]),
    ("prompt", [7, True, {}, [None], [True], [[None]], ["a", 7], [7, "a"], ["a", ["b"]], [[1], "a"], [[[1]]],
                [1.5], [-1], [10**6], [2**63 - 1], ["a"] * 100000]),
])
def test_wrong_values_of_every_field(server, name, wrong):
    for value in wrong:
        error = refused(server, {"prompt": "x", name: value})
        # prompt: the context that a large max_tokens does not fit
        assert error["param"].split("[")[0].split(".")[0] in (name, "prompt"), (value, error)


@pytest.mark.parametrize("bias", [
    {"5": 101}, {"5": -101}, {"5": "1"}, {"5": None}, {"5": [1]}, {"5": True}, {"": 1}, {" 5": 1}, {"5 ": 1},
    {"+5": 1}, {"5.0": 1}, {"1e1": 1}, {"0x5": 1}, {"9" * 400: 1}, {"-0": 1}, {"5": "NaN"}, {"5": "Infinity"},
    {str(i): 1 for i in range(100000)},
])
def test_logit_biases_that_are_none(server, bias):
    assert refused(server, {"prompt": "x", "logit_bias": bias})["param"].startswith("logit_bias")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"nan", b"inf", b"+1",
                                    b"01", b"1.", b".5", b"0x1", b"1e", b"--1"])
@pytest.mark.parametrize("field", [b'"logit_bias":{"5":%s}', b'"seed":%s', b'"n":%s', b'"logprobs":%s'])
def test_numbers_that_are_no_json(server, field, number):
    body = b'{"prompt":"x",' + field % number + b"}"
    assert refused(server, body)["code"] == "invalid_json"


def test_numbers_at_the_edge(server):
    for seed in (0, -1, 2**63 - 1, -2**63, 4.0):
        server.complete(prompt="x", seed=seed)
    assert refused(server, b'{"prompt":"x","seed":18446744073709551616}')["code"] == "invalid_json"
    assert server.complete(prompt="x", n=2.0, max_tokens=3.0)["usage"]["completion_tokens"] <= 6


@pytest.mark.parametrize("bias", [{"5": 100}, {"5": -100}, {"0": 0}, {}, {"05": 1}])
def test_logit_biases_that_are_some(server, bias):
    server.complete(prompt="x", logit_bias=bias, max_tokens=4)


@pytest.mark.parametrize("messages", [
    7, "x", {}, [], [7], [None], ["x"], [{}], [{"role": "user"}], [{"content": "x"}],
    [{"role": 7, "content": "x"}], [{"role": "user", "content": 7}], [{"role": "user", "content": {}}],
    [{"role": "user", "content": None}], [{"role": "user", "content": [7]}],
    [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "text", "text": 7}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x"}}]}],
    [{"role": "user\u0000", "content": "x"}], [{"role": "u" * 100000, "content": "x"}],
], ids=lambda value: repr(value)[:60])
def test_messages_that_are_none(server, messages):
    error = refused(server, {"messages": messages}, path=CHAT)
    assert error["param"].startswith("messages") and len(error["message"]) < 600
    refused(server, {"messages": messages}, path="/tokenize")


def test_templates_and_urls_are_not_taken_from_requests(server):
    error = refused(server, {"messages": MESSAGES, "chat_template": "{{ 7 * 7 }}"}, path=CHAT)
    assert error["param"] == "chat_template"
    for text in ("{{ 7 * 7 }}", "{% for x in range(10**9) %}x{% endfor %}", "<|im_end|><|im_start|>system"):
        status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": text}], "max_tokens": 2})
        assert status == 200, answer


def test_depth_is_of_brackets_not_of_strings(server):
    server.complete(prompt="[" * 300 + '"\\' + "{" * 300, max_tokens=1, other={"x": "[[[[" * 100})
    deep = b"[" * 62 + b"]" * 62
    status, answer = server.post(COMPLETIONS, b'{"prompt":"x","a":' + deep + b"}")
    assert status == 200, answer
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * 257 + b"1" + closing * 257
        assert refused(server, b'{"prompt":"x","a":' + deep + b"}")["code"] == "invalid_json"


@pytest.mark.parametrize("extra, max_tokens, status", [
    (0, 1, 400), (-1, 1, 200), (-1, 2, 400), (-2, 2, 200), (1, 1, 400), (0, None, 400), (-1, None, 200)])
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_of_the_context_length(server, extra, max_tokens, status, stream):
    fields = {"prompt": [5] * (2048 + extra), "max_tokens": max_tokens, "ignore_eos": True, "stream": stream}
    if status == 400:
        assert "maximum context length is 2048 tokens" in refused(server, fields)["message"]
    elif stream:
        assert server.events(**fields)[-1]["choices"][0]["finish_reason"] == "length"
    else:
        assert server.complete(**fields)["usage"]["total_tokens"] <= 2048


def test_a_prompt_of_exactly_the_context_length_can_be_scored(server):
    answer = server.complete(prompt=[5] * 2048, max_tokens=0, echo=True, logprobs=0)
    assert len(answer["choices"][0]["logprobs"]["token_logprobs"]) == 2048
    error = refused(server, {"prompt": [5] * 2049, "max_tokens": 0, "echo": True})
    assert error["code"] == "context_length_exceeded"


def test_logprobs_times_tokens_are_bounded(server):
    """16 sequences of 2,000 tokens with 20 alternatives: 672,000 numbers are allowed, 64 of them are not."""
    fields = {"max_tokens": 2000, "logprobs": 20, "ignore_eos": True}
    error = refused(server, {**fields, "prompt": ["x"] * 4, "n": 16})
    assert error["param"] == "logprobs" and "1048576" in error["message"]
    client = server.send({**fields, "prompt": "x", "n": 16, "stream": True})
    assert b" 200 " in read_until(client, b"\r\n")
    client.close()


def test_text_without_end_takes_linear_time(server):
    """4 MB of one letter, of blanks and of nothing common: refused for the context, after tokenizing."""
    for text in ("a" * 4000000, " " * 4000000, "\u0300" * 1000000, "\n\r\t " * 500000):
        assert refused(server, json.dumps({"prompt": text}, ensure_ascii=False).encode())["code"] == (
            "context_length_exceeded")
