"""Log probabilities, penalties and biases over HTTP; the numbers against an independent implementation.

The model is tests/data/golden's llama_ropescale_bf16: golden.json has, for six prompts, the log probability
of every token given those before it, the five likeliest after the last, and 48 greedy tokens with theirs.
"""
import json
import os
import pathlib

import pytest
from espalier_server import Server

GOLDEN = pathlib.Path(os.environ["ESPALIER_ROOT"]) / "tests" / "data" / "golden" / "llama_ropescale_bf16"
CLOSE = 2e-3


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture(scope="module", params=[["--prefill-chunk", "512"], ["--prefill-chunk", "16", "--max-rows", "3"]],
                ids=["one chunk", "chunks of 16"])
def exact(request):
    server = Server("--weights", "native", "--kv-type", "f32", *request.param, model=str(GOLDEN))
    yield server
    server.wait_idle()
    server.stop()


def test_echoed_prompts_have_the_golden_logprobs(exact, golden):
    for prompt in golden["prompts"]:
        answer = exact.complete(prompt=prompt["ids"], max_tokens=0, echo=True, logprobs=5)
        (choice,) = answer["choices"]
        numbers = choice["logprobs"]["token_logprobs"]
        assert numbers[0] is None and choice["logprobs"]["top_logprobs"][0] is None
        assert numbers[1:] == pytest.approx(prompt["logprobs"], abs=CLOSE)
        assert answer["usage"]["completion_tokens"] == 0 and choice["finish_reason"] == "length"
        assert len(choice["logprobs"]["tokens"]) == len(prompt["ids"]) == len(choice["logprobs"]["text_offset"])


def test_echo_with_an_answer_has_both(exact, golden):
    for prompt in golden["prompts"]:
        answer = exact.complete(prompt=prompt["ids"], max_tokens=48, temperature=0, echo=True, logprobs=1,
                                ignore_eos=True, return_token_ids=True)
        (choice,) = answer["choices"]
        greedy = prompt["greedy"]
        assert choice["token_ids"] == greedy["ids"]
        numbers = choice["logprobs"]["token_logprobs"]
        assert numbers[1:] == pytest.approx(prompt["logprobs"] + greedy["logprobs"], abs=CLOSE)
        for own, top in list(zip(numbers, choice["logprobs"]["top_logprobs"]))[len(prompt["ids"]):]:
            assert own == max(top.values()), "greedy is what lm-evaluation-harness takes it for"


def test_chat_and_completions_tell_the_same_numbers(exact, golden):
    prompt = golden["prompts"][3]
    text = exact.post("/detokenize", {"tokens": prompt["ids"]})[1]["prompt"]
    plain = exact.complete(prompt=prompt["ids"], max_tokens=1, temperature=0, logprobs=5)["choices"][0]["logprobs"]
    expected = dict(zip(range(5), prompt["top5"]["logprobs"]))
    assert sorted(plain["top_logprobs"][0].values(), reverse=True)[:5] == pytest.approx(
        list(expected.values()), abs=CLOSE)
    messages = [{"role": "user", "content": text[:40]}]
    rendered = exact.post("/tokenize", {"messages": messages})[1]["tokens"]
    fields = {"temperature": 0, "max_tokens": 6}
    status, chat = exact.post("/v1/chat/completions",
                              {"messages": messages, "logprobs": True, "top_logprobs": 3, **fields})
    assert status == 200, chat
    same = exact.complete(prompt=rendered, logprobs=3, **fields)["choices"][0]["logprobs"]
    content = chat["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == same["token_logprobs"]
    for entry in content:
        assert [t["logprob"] for t in entry["top_logprobs"]] == sorted(
            (t["logprob"] for t in entry["top_logprobs"]), reverse=True)
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0] == {k: entry[k] for k in ("token", "logprob", "bytes")}
    spoken = b"".join(bytes(entry["bytes"]) for entry in content)
    assert spoken.decode(errors="replace").startswith(chat["choices"][0]["message"]["content"])


def test_a_stream_carries_what_the_whole_answer_has(server):
    fields = {"prompt": "Once upon", "max_tokens": 7, "temperature": 0, "logprobs": 2, "echo": True, "n": 2}
    whole = {c["index"]: c["logprobs"] for c in server.complete(**fields)["choices"]}
    gathered = {}
    for event in server.events(**fields):
        for choice in event["choices"]:
            for name, values in choice["logprobs"].items():
                gathered.setdefault(choice["index"], {}).setdefault(name, []).extend(values)
    assert gathered == whole


def test_text_offsets_point_into_the_text(server):
    """Counted in characters; a prompt alone, so that the text is known and whole."""
    choice = server.complete(prompt="The quick b\u00e9b\u00e9 \u6728, a tree", max_tokens=0, logprobs=0, echo=True)["choices"][0]
    logprobs, text = choice["logprobs"], choice["text"]
    whole = [(token, offset) for token, offset in zip(logprobs["tokens"], logprobs["text_offset"])
             if not token.startswith("bytes:")]
    assert len(whole) > 8 and len(whole) < len(logprobs["tokens"])
    for token, offset in whole:
        assert text[offset:offset + len(token)] == token


def test_logprobs_do_not_change_the_answer(server):
    fields = {"prompt": "abc", "max_tokens": 16, "temperature": 0.8, "seed": 11}
    assert (server.complete(**fields)["choices"][0]["text"]
            == server.complete(**fields, logprobs=5)["choices"][0]["text"])


def test_max_tokens_0_needs_echo(server):
    status, answer = server.post("/v1/completions", {"prompt": "a", "max_tokens": 0})
    assert status == 400 and answer["error"]["param"] == "max_tokens"
    answer = server.complete(prompt=["ab", "c"], max_tokens=0, echo=True, n=2)
    assert [c["text"] for c in answer["choices"]] == ["ab", "ab", "c", "c"]
    events = server.events(prompt="ab", max_tokens=0, echo=True, stream_options={"include_usage": True})
    assert events[0]["choices"][0]["text"] == "ab" and events[-1]["usage"]["completion_tokens"] == 0


# --- what changes the logits

def greedy(server, **fields):
    return server.complete(prompt="Hello there", temperature=0, max_tokens=12, ignore_eos=True,
                           return_token_ids=True, **fields)["choices"][0]["token_ids"]


def test_a_bias_decides_and_lifts_no_one_else(server):
    plain = greedy(server)
    assert set(greedy(server, logit_bias={"300": 100})) == {300}
    banned = greedy(server, logit_bias={str(plain[0]): -100})
    assert plain[0] not in banned
    assert greedy(server, logit_bias={str(plain[0]): 0}) == plain


def test_penalties_stop_repetition(server):
    pushed = {"logit_bias": {"300": 20}}
    assert greedy(server, **pushed) == [300] * 12
    for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2, "frequency_penalty": 2},
                    {"repetition_penalty": 50}):
        assert len(set(greedy(server, **pushed, **penalty))) > 1, penalty
    assert greedy(server, frequency_penalty=0, presence_penalty=0, repetition_penalty=1) == greedy(server)


def test_min_tokens_withholds_what_would_end(server):
    first = greedy(server)[0]
    fields = {"prompt": "Hello there", "temperature": 0, "max_tokens": 12, "return_token_ids": True,
              "stop_token_ids": [first], "ignore_eos": True}
    at_once = server.complete(**fields)["choices"][0]
    assert at_once["token_ids"] == [first] and at_once["finish_reason"] == "stop"
    later = server.complete(**fields, min_tokens=5)["choices"][0]["token_ids"]
    assert len(later) >= 5 and first not in later[:5]


def test_too_many_numbers_are_refused_before_any_work(launch):
    server = launch("--max-logprob-total", "1000")
    status, answer = server.post("/v1/completions", {"prompt": "a", "max_tokens": 500, "logprobs": 5})
    assert status == 400 and answer["error"]["param"] == "logprobs" and "1000" in answer["error"]["message"]
    assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 50, "logprobs": 5})[0] == 200
    server.stop()
