"""Fields, shapes and numbers of the API, as bytes on the wire."""
import json

import pytest


def test_prompts_as_text_and_as_ids_are_one(server):
    ids = server.post("/tokenize", {"prompt": "Hello there"})[1]["tokens"]
    fields = {"max_tokens": 12, "temperature": 0}
    by_text = server.complete(prompt="Hello there", **fields)
    by_ids = server.complete(prompt=ids, **fields)
    assert by_text["choices"] == by_ids["choices"]
    assert by_text["usage"]["prompt_tokens"] == len(ids)


def test_several_prompts_are_several_requests(server):
    one, two = (server.complete(prompt=text, max_tokens=6, temperature=0)["choices"][0]["text"]
                for text in ("One", "Two"))
    both = server.complete(prompt=["One", "Two"], max_tokens=6, temperature=0)
    assert [choice["text"] for choice in both["choices"]] == [one, two]
    assert [choice["index"] for choice in both["choices"]] == [0, 1]


def test_tokenize_and_detokenize_are_inverse(server):
    text = "Grüße, 世界 🌳\x00 <|im_start|>\n"
    status, answer = server.post("/tokenize", {"prompt": text})
    assert status == 200 and answer["count"] == len(answer["tokens"])
    assert server.post("/detokenize", {"tokens": answer["tokens"]})[1] == {"prompt": text}


def test_tokenize_takes_messages(server):
    messages = [{"role": "user", "content": "hi"}]
    with_turn = server.post("/tokenize", {"messages": messages})[1]["tokens"]
    without = server.post("/tokenize", {"messages": messages,
                                        "add_generation_prompt": False})[1]["tokens"]
    assert with_turn[:len(without)] == without and len(with_turn) > len(without)


def test_special_tokens_are_not_parsed_out_of_a_message(server):
    special = server.post("/tokenize", {"prompt": "<|im_end|>"})[1]["tokens"]
    assert len(special) == 1
    told = server.post("/tokenize", {"messages": [{"role": "user", "content": "<|im_end|>"}]})[1]
    plain = server.post("/tokenize", {"messages": [{"role": "user", "content": ""}]})[1]
    assert told["tokens"].count(special[0]) == plain["tokens"].count(special[0])


def test_echo_puts_the_prompt_before(server):
    text = server.complete(prompt="Hello", max_tokens=4, temperature=0)["choices"][0]["text"]
    echoed = server.complete(prompt="Hello", max_tokens=4, temperature=0, echo=True)
    assert echoed["choices"][0]["text"] == "Hello" + text
    stream = server.events(prompt="Hello", max_tokens=4, temperature=0, echo=True)
    assert "".join(e["choices"][0]["text"] for e in stream) == "Hello" + text


def test_a_stop_string_cuts_the_text_and_ends_the_work(server):
    whole = server.complete(prompt="abc", max_tokens=40, temperature=0, ignore_eos=True)
    text = whole["choices"][0]["text"]
    stop = next(text[i:i + 2] for i in range(8, len(text) - 1) if "\ufffd" not in text[i:i + 2])
    for fields in ({"stop": stop}, {"stop": ["never\x01", stop]}):
        cut = server.complete(prompt="abc", max_tokens=40, temperature=0, ignore_eos=True, **fields)
        assert cut["choices"][0]["text"] == text[:text.index(stop)]
        assert cut["choices"][0]["finish_reason"] == "stop"
        assert cut["usage"]["completion_tokens"] < 40
        parts = server.events(prompt="abc", max_tokens=40, temperature=0, ignore_eos=True, **fields)
        assert "".join(e["choices"][0]["text"] for e in parts) == text[:text.index(stop)]
        assert parts[-1]["choices"][0]["finish_reason"] == "stop"


def test_stop_token_ids_end_and_are_counted(server):
    whole = server.complete(prompt="abc", max_tokens=20, temperature=0, return_token_ids=True,
                            ignore_eos=True)["choices"][0]
    token = whole["token_ids"][7]
    first = whole["token_ids"].index(token)
    cut = server.complete(prompt="abc", max_tokens=20, temperature=0, return_token_ids=True,
                          ignore_eos=True, stop_token_ids=[token])
    assert cut["choices"][0]["token_ids"] == whole["token_ids"][:first + 1]
    assert cut["choices"][0]["finish_reason"] == "stop"
    later = server.complete(prompt="abc", max_tokens=20, temperature=0, return_token_ids=True,
                            ignore_eos=True, stop_token_ids=[token], min_tokens=first + 2)
    assert len(later["choices"][0]["token_ids"]) >= first + 2


def test_a_stream_has_one_event_a_token(server):
    events = server.events(prompt="abc", max_tokens=30, temperature=0, ignore_eos=True,
                           return_token_ids=True)
    assert [len(e["choices"][0]["token_ids"]) for e in events] == [1] * 30 + [0]
    assert events[0]["choices"][0]["prompt_token_ids"]
    assert all("usage" not in e for e in events)
    assert [e["choices"][0]["finish_reason"] for e in events] == [None] * 30 + ["length"]
    assert {e["object"] for e in events} == {"text_completion"}
    whole = server.complete(prompt="abc", max_tokens=30, temperature=0, ignore_eos=True,
                            return_token_ids=True)["choices"][0]
    assert [i for e in events for i in e["choices"][0]["token_ids"]] == whole["token_ids"]
    assert "".join(e["choices"][0]["text"] for e in events) == whole["text"]


def test_usage_counts_the_prompt_once_and_every_branch(server):
    events = server.events(prompt="abcd", n=3, max_tokens=5, ignore_eos=True,
                           stream_options={"include_usage": True, "continuous_usage_stats": True})
    usage = events[-1]["usage"]
    assert events[-1]["choices"] == []
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (4, 15, 19)
    assert "cached_tokens" in usage["prompt_tokens_details"]
    running = [e["usage"]["completion_tokens"] for e in events[:-1]]
    assert running == sorted(running) and running[-1] == 15


def test_a_seed_repeats_and_its_absence_does_not(server):
    def ask(**more):
        return server.complete(prompt="abc", max_tokens=16, temperature=1.5, **more)["choices"][0]

    assert ask(seed=11) == ask(seed=11)
    assert ask(seed=11)["text"] != ask(seed=12)["text"]
    assert len({ask()["text"] for _ in range(4)}) > 1


def test_chat_fills_the_context_by_default(server):
    limit = json.loads(server.request("GET", "/v1/models")[2])["data"][0]["max_model_len"]
    status, answer = server.post("/v1/chat/completions", {
        "messages": [{"role": "user", "content": "x" * (limit // 2)}], "ignore_eos": True,
        "temperature": 0})
    assert status == 200
    assert answer["usage"]["total_tokens"] == limit
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_completion_is_16_tokens_by_default(server):
    assert server.complete(prompt="a", ignore_eos=True)["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("extra, status", [(-17, 200), (-16, 200), (-1, 200), (0, 400), (1, 400)])
def test_prompts_around_the_context_length(server, extra, status):
    limit = json.loads(server.request("GET", "/v1/models")[2])["data"][0]["max_model_len"]
    found, answer = server.post("/v1/completions", {"prompt": [5] * (limit + extra)})
    assert found == status, answer
    if status == 400:
        assert f"maximum context length is {limit} tokens" in answer["error"]["message"]
        assert answer["error"]["code"] == "context_length_exceeded"
        assert answer["error"]["param"] == "prompt"


def test_max_tokens_must_fit(server):
    limit = json.loads(server.request("GET", "/v1/models")[2])["data"][0]["max_model_len"]
    fields = {"prompt": [5] * 10, "ignore_eos": True, "temperature": 0}
    assert server.post("/v1/completions", {**fields, "max_tokens": limit - 9})[0] == 400
    whole = server.complete(**fields, max_tokens=limit - 10)
    assert whole["usage"]["total_tokens"] == limit


def test_request_ids_are_echoed_when_clean(server):
    assert server.request("GET", "/health", headers={"X-Request-Id": "a-1.b:2"})[1][
        "X-Request-Id"] == "a-1.b:2"
    for unclean in ("a b", "x" * 129, "é".encode().decode("latin-1"), ""):
        given = server.request("GET", "/health", headers={"X-Request-Id": unclean})[1]
        assert given["X-Request-Id"] not in ("", unclean)


def test_health_version_head(server):
    assert server.request("GET", "/health")[0] == 200
    assert json.loads(server.request("GET", "/version")[2])["version"]
    status, headers, body = server.request("HEAD", "/health")
    assert (status, body) == (200, "") and int(headers["Content-Length"]) > 0


def test_metrics_parse_and_count(server):
    server.wait_idle()  # the engine's numbers are those of the last finished tick
    before = server.metrics()
    server.complete(prompt="abc", max_tokens=5, ignore_eos=True)
    server.post("/v1/completions", {"prompt": 7})
    server.wait_idle()
    after = server.metrics()

    def grown(name, **labels):
        key = (name, frozenset(labels.items()))
        return after[key] - before[key]

    assert grown("espalier_requests_total", outcome="length") == 1
    assert grown("espalier_refusals_total", reason="invalid_type", status="400") == 1
    assert grown("espalier_generation_tokens_total") == 5
    assert grown("espalier_prompt_tokens_total") == 3
    assert grown("espalier_time_to_first_token_seconds_count") == 1
    assert grown("espalier_inter_token_latency_seconds_count") == 4
    assert grown("espalier_time_per_output_token_seconds_count") == 1
    assert grown("espalier_e2e_request_latency_seconds_count") == 1
    assert grown("espalier_request_queue_time_seconds_count") == 1
    model = {"model_name": server.model}
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting",
                 "vllm:kv_cache_usage_perc"):
        assert (name, frozenset(model.items())) in after
    info = [labels for name, labels in after if name == "vllm:cache_config_info"]
    assert {key for key, _ in info[0]} == {"block_size", "num_gpu_blocks"}


def test_more_sequences_than_may_ever_wait_are_refused_at_once(launch):
    server = launch("--max-queue", "2")
    for fields, param in (({"prompt": "a", "n": 3}, "n"), ({"prompt": ["a", "b", "c"]}, "prompt"),
                          ({"prompt": ["a", "b"], "n": 2}, "n")):
        status, answer = server.post("/v1/completions", fields)
        assert status == 400 and answer["error"]["param"] == param, answer
        assert "at most 2" in answer["error"]["message"]
    assert server.metric("espalier_generation_tokens_total") == 0
    server.complete(prompt=["a", "b"], max_tokens=2)
    server.stop()
