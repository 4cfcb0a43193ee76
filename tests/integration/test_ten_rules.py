"""The ten rules of serving-contract.md section 1, where no other file shows them: rule 1 is in test_errors.py
(with the full queue) and here (with keys and draining), rule 3 in test_limits.py. Rule 10 asks for a dashboard;
what it will draw from is the refusals by reason and the outcomes of /metrics, below."""
import json
import signal
import time

import pytest
from espalier_server import SLOW_MODEL, read_until, wait_for

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
LONG = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True}


def test_rule_1_no_refusal_inside_a_stream(launch, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-right")
    server = launch("--api-key-file", str(keys), "--max-queue", "1", "--max-rows", "1", "--context", "2048",
                    model=SLOW_MODEL)
    right = {"Authorization": "Bearer sk-right"}
    stream = json.dumps({**LONG, "stream": True})

    def refused(headers, status):
        found, about, text = server.request("POST", COMPLETIONS, stream, headers)
        assert found == status and about["Content-Type"] == "application/json" and "data:" not in text

    refused({}, 401)
    body = stream.encode()
    clients = [server.socket() for _ in range(2)]
    for client in clients:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-right\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        read_until(client, b"\r\n\r\n")
    refused(right, 503)
    server.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in server.words(), "stopping")
    refused(right, 503)
    for client in clients:
        client.close()
    assert server.wait() == 0


def test_rule_2_n_counts_as_n(launch):
    """4 rows and 8 places: sequences are counted, and all of a request's are taken or none."""
    server = launch("--max-rows", "4", "--max-queue", "8", "--context", "2048", model=SLOW_MODEL)
    model = {"model_name": server.model}

    def ask(n, prompts=1, **more):
        return server.request("POST", COMPLETIONS, json.dumps(
            {**LONG, "prompt": ["x"] * prompts, "n": n, "max_tokens": 1, **more}))[0]

    busy = server.send({**LONG, "n": 8, "stream": True})
    wait_for(lambda: server.metric("vllm:num_requests_running", **model) == 4
             and server.metric("vllm:num_requests_waiting", **model) == 4, "4 run and 4 wait")
    assert server.metric("espalier_sequences_running") == server.metric("espalier_requests_waiting") == 4
    assert ask(5) == 503 and ask(5, stream=True) == 503
    assert ask(3, prompts=2) == 503 and ask(3, prompts=2, stream=True) == 503
    wait_for(lambda: server.metric("vllm:num_requests_waiting", **model) == 4, "no place was kept")
    queued = server.send({**LONG, "n": 4})
    wait_for(lambda: server.metric("vllm:num_requests_waiting", **model) == 8, "8 wait")
    assert ask(1) == 503
    busy.close(), queued.close()
    server.wait_idle()
    assert server.metric("espalier_request_params_n_sum") >= 12
    server.stop()


def events_of(server, path, fields):
    """The head and the body of a streamed answer, byte for byte."""
    body = json.dumps({**fields, "stream": True}).encode()
    answer = server.raw(b"POST " + path.encode() + b" HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head, text = answer.split(b"\r\n\r\n", 1)
    return head.decode(), text.decode()


@pytest.mark.parametrize("path, fields", [
    (COMPLETIONS, {"prompt": "x"}), (CHAT, {"messages": MESSAGES}),
    (COMPLETIONS, {"prompt": "x", "n": 3, "stream_options": {"include_usage": True}}),
    (CHAT, {"messages": MESSAGES, "stream_options": {"include_usage": True}}),
    (COMPLETIONS, {"prompt": "x\ny", "echo": True, "logprobs": 2}),
])
def test_rule_4_the_bytes_of_a_stream(server, path, fields):
    head, text = events_of(server, path, {**fields, "max_tokens": 5, "ignore_eos": True})
    assert "Content-Type: text/event-stream\r\n" in head + "\r\n"
    assert "\r" not in text and text.endswith("\n\ndata: [DONE]\n\n") and "\n\n\n" not in text
    lines = text[:-2].split("\n\n")
    for line in lines:
        assert line.startswith("data: ") and line[6] != " " and "\n" not in line, line
    wanted = bool(fields.get("stream_options"))
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks[:len(chunks) - wanted])
    if wanted:
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 5 * fields.get("n", 1)
    assert {chunk["object"] for chunk in chunks} == {
        "text_completion" if path == COMPLETIONS else "chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_rule_5_no_chunk_before_prefill_ends(launch):
    """A step for each token of the prompt: when the first event comes they have all been done."""
    server = launch("--prefill-chunk", "1")
    prompt = "x" * 1000
    count = server.post("/tokenize", {"messages": [{"role": "user", "content": prompt}]})[1]["count"]
    assert count > 1000
    for path, fields in ((CHAT, {"messages": [{"role": "user", "content": prompt}]}),
                         (COMPLETIONS, {"prompt": [5] * count})):
        server.wait_idle()
        before = server.metric("espalier_steps_total")
        client = server.send({**fields, "stream": True, "max_tokens": 400}, path)
        event = read_until(client, b"\n\n").split(b"data: ")[1]
        # The step that gave this event is published when it ends.
        assert server.metric("espalier_steps_total") - before >= count - 1
        choice = json.loads(event.split(b"\n\n")[0])["choices"][0]
        if path == CHAT:
            assert choice["delta"]["role"] == "assistant" and "content" in choice["delta"]
        client.close()
    server.wait_idle()
    server.stop()


BOTH = ("model max_tokens max_completion_tokens n stop stop_token_ids include_stop_str_in_output temperature top_p "
        "top_k min_p repetition_penalty presence_penalty frequency_penalty seed logit_bias logprobs ignore_eos "
        "min_tokens stream stream_options priority cache_salt user return_token_ids add_special_tokens "
        "response_format best_of suffix tools tool_choice slo stages branching x_unknown").split()


@pytest.mark.parametrize("path, required, optional", [
    (COMPLETIONS, {"prompt": "x"}, [*BOTH, "echo", "messages"]),
    (CHAT, {"messages": MESSAGES, "max_tokens": 4}, [name for name in [*BOTH, "top_logprobs", "prompt",
                                                   "add_generation_prompt"] if name != "max_tokens"]),
    ("/tokenize", {"prompt": "x"}, ["messages", "model", "add_special_tokens", "add_generation_prompt"]),
    ("/tokenize", {"messages": MESSAGES}, ["prompt", "model", "add_special_tokens", "add_generation_prompt"]),
    ("/detokenize", {"tokens": [5]}, ["model", "x_unknown"]),
])
def test_rule_6_null_is_the_default_of_every_field(server, path, required, optional):
    fixed = {} if path.endswith("tokenize") else {"seed": 7}
    status, plain = server.post(path, {**required, **fixed})
    assert status == 200
    nulls = {name: None for name in optional if name not in fixed}
    status, answer = server.post(path, {**required, **nulls, **fixed})
    assert status == 200, answer
    for one in (plain, answer):
        one.pop("id", None), one.pop("created", None)
    assert answer == plain
    for name in optional:
        assert server.post(path, {**required, name: None})[0] == 200, name


@pytest.mark.parametrize("value", [0, "", [], {}, True, "x" * 1000, {"a": [1, {"b": None}]}])
def test_rule_6_unknown_fields_are_ignored(server, value):
    plain = server.complete(prompt="x", temperature=0)
    assert server.complete(prompt="x", temperature=0, no_such_field=value)["choices"] == plain["choices"]


def test_rule_7_metrics_do_not_wait_for_a_step(launch):
    """One step computes a prompt of 400 tokens; several scrapes are answered within it, each whole."""
    server = launch("--prefill-chunk", "400", "--context", "2048", model=SLOW_MODEL)
    client = server.send({"prompt": [5] * 400, "max_tokens": 1})
    wait_for(lambda: server.metric("espalier_active_requests") == 1, "accepted")
    during = []
    while server.metric("espalier_active_requests") == 1:
        during.append(server.metric("espalier_steps_total"))
        time.sleep(0.01)
    assert during.count(0) >= 3, "scrapes within the first step"
    assert b" 200 " in read_until(client, b"\r\n")
    client.close()
    server.stop()


def test_rule_8_the_names_that_routers_read(server):
    metrics = server.metrics()
    model = frozenset({("model_name", server.model)})
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting"):
        assert metrics[(name, model)] == 0
    assert 0 <= metrics[("vllm:kv_cache_usage_perc", model)] <= 1
    (info,) = [dict(labels) for name, labels in metrics if name == "vllm:cache_config_info"]
    assert int(info["block_size"]) == 16 and int(info["num_gpu_blocks"]) > 0
    assert metrics[("vllm:cache_config_info", frozenset(info.items()))] == 1


def test_rule_8_evictable_blocks_are_not_used(server):
    server.complete(prompt=[5] * 1000, max_tokens=2)
    server.wait_idle()
    assert server.metric("vllm:kv_cache_usage_perc", model_name=server.model) == 0


@pytest.mark.parametrize("value", ["250", "1e3", "", "0", "-5", "soon", "9" * 400, "NaN"])
def test_rule_9_slo_headers_are_accepted(server, value):
    plain = server.complete(prompt="x", temperature=0)
    headers = {"x-slo-ttft-ms": value, "X-SLO-TPOT-MS": value}
    status, answer = server.post(COMPLETIONS, {"prompt": "x", "temperature": 0}, headers)
    assert status == 200 and answer["choices"] == plain["choices"]


def test_rule_10_refusals_and_outcomes_have_their_reasons(server):
    metrics = server.metrics()
    reasons = {dict(labels)["reason"] for name, labels in metrics if name == "espalier_refusals_total"}
    assert {"queue_full", "draining", "invalid_json", "context_length_exceeded", "invalid_api_key"} <= reasons
    outcomes = {dict(labels)["outcome"] for name, labels in metrics if name == "espalier_requests_total"}
    assert {"stop", "length", "abort", "error"} <= outcomes


# --- X-Request-Id


def request_id(answer):
    (line,) = [line for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n") if line.startswith(b"X-Request-Id: ")]
    return line[len(b"X-Request-Id: "):]


@pytest.mark.parametrize("path, body", [
    ("/health", None), ("/nothing", None), (COMPLETIONS, b"{"), (COMPLETIONS, b'{"prompt":"x"}'),
    (COMPLETIONS, b'{"prompt":"x","stream":true}'), (COMPLETIONS, b"x" * 4200000),
])
def test_every_answer_has_the_clients_id(server, path, body):
    head = b"X-Request-Id: my-id_1.2:3\r\nConnection: close\r\nHost: a\r\n"
    line = (b"POST " if body else b"GET ") + path.encode() + b" HTTP/1.1\r\n"
    answer = server.raw(line + head + b"Content-Length: %d\r\n\r\n" % len(body or b"") + (body or b""))
    assert request_id(answer) == b"my-id_1.2:3"


@pytest.mark.parametrize("value", [
    b"a\r\n X-Evil: b", b"a\tb", b"a\x00b", b"<script>", b"\xff", b'"; drop', b"a" * 129, b"a" * 60000, b"%0d%0aX-Evil: b",
    b"a\r\nX-Request-Id: b c",
])
def test_no_id_breaks_a_header(server, value):
    answer = server.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: " + value +
                        b"\r\n\r\n")
    assert b"Evil" not in answer
    found = request_id(answer)
    assert found == b"a" if value.startswith((b"a\x00", b"a\r\nX")) else len(found) == 32


# --- several prompts and n


@pytest.mark.parametrize("stream", [False, True])
def test_choices_are_numbered_prompt_by_prompt(server, stream):
    """choice index = prompt * n + i, as vLLM's and OpenAI's; a prompt's first tokens tell whose it is."""
    prompts, n = ["One", "Two", "Three"], 3
    fields = {"max_tokens": 6, "temperature": 1, "seed": 5, "ignore_eos": True, "n": n, "echo": True}
    if stream:
        texts = {}
        for event in server.events(prompt=prompts, **fields):
            (choice,) = event["choices"]
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    else:
        answer = server.complete(prompt=prompts, **fields)
        assert [choice["index"] for choice in answer["choices"]] == list(range(9))
        assert answer["usage"]["completion_tokens"] == 9 * 6
        texts = {choice["index"]: choice["text"] for choice in answer["choices"]}
    assert sorted(texts) == list(range(9))
    for index, text in texts.items():
        assert text.startswith(prompts[index // n])
    for i, prompt in enumerate(prompts):
        alone = server.complete(prompt=prompt, **fields)["choices"]
        assert [choice["text"] for choice in alone] == [texts[i * n + j] for j in range(n)]
