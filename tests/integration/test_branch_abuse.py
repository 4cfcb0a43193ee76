"""Hundreds of random requests with branches at once, against servers with hardly any room.

Every request is first sent alone, then many times among the others: whole, as either stream, read slowly, left in the
middle. Whoever stays gets the status, the text, the reason and the usage that it got alone. A seed makes a run:
ESPALIER_ABUSE_SEED (default 1), ESPALIER_ABUSE_ROUNDS servers (default 2; each has another policy, pool and row limit)
and ESPALIER_ABUSE_REQUESTS requests for each (default 50).
"""
import concurrent.futures
import itertools
import json
import os
import pathlib
import random
import re
import tempfile
import time

import scripted_model
import test_branches
from espalier_server import Server, parse_events, wait_for

SEED = int(os.environ.get("ESPALIER_ABUSE_SEED", "1"))
ROUNDS = int(os.environ.get("ESPALIER_ABUSE_ROUNDS", "2"))
REQUESTS = int(os.environ.get("ESPALIER_ABUSE_REQUESTS", "50"))
CLIENTS = 24
SLOT = 512  # bytes of a token of synthetic:tiny
FLAT = 48 << 20  # what a server of this size may grow by: heaps of threads, a sanitizer's quarantine
LETTERS = "abcdefghijkl"  # biases make a model say them that knows no tags; their ids are three more
SCRIPT = test_branches.SCRIPT
WORDS = ["", "a", "Hello wide world. ", "\n1. ", "- x\n- y\n", "\u00e9\u4e2d\U0001f408", "{item}{index}", "<|im_end|>", "\u0000",
         "zq " * 40, "e", " the"]


def config(rng):
    context = rng.choice([64, 160, 256])
    pool = context * SLOT * rng.choice([1, 1, 2, 16])  # bytes
    return ["--policy", rng.choice(["off", "cap:2", "eager"]), "--max-rows", str(rng.choice([1, 2, 3, 4, 16])),
            "--context", str(context), "--kv-memory", str(pool),
            "--prefill-chunk", str(rng.choice([3, 16, 64])), "--weights", "native", "--kv-type", "f32",
            "--frontends", str(rng.randint(1, 3)), "--max-n", "64", "--max-queue", str(rng.choice([200, 512]))]


# --- requests


def number(rng, most):
    """Mostly one that can be used."""
    if rng.random() < 0.01:
        return rng.choice([-1, 2**31, 2**63, 1e400, 1e308, 0.5, "3", None, True, [], float("nan")])
    return rng.choice([0, 1, rng.randint(0, most)])


def prompt(rng):
    kind = rng.random()
    if kind < 0.6:
        return "".join(rng.choices(WORDS, k=rng.randint(1, 3)))
    if kind < 0.99:
        return [rng.randrange(200) for _ in range(rng.choice([0, 1, 14, 15, 16, 17, 31, 32, 33]))]
    return rng.choice([[10**9], [-1], [2**31], None, 7, {}, ["a", 1], [[1], [2]], [1.5]])


def stop(rng):
    return rng.choice([None, [], "e", ["a", "the", "\n"], "", ["\u4e2d", "x" * 256], "x" * 257, ["q"] * 17, 3, [None]]
                      if rng.random() < 0.05 else [None, "e", ["a", " "], ["\n", "o", "1"]])


def branch(rng, most):
    fields = {"prompt": prompt(rng), "max_tokens": number(rng, most), "nested": 1, "stages": []}
    return {name: fields[name] for name in fields
            if rng.random() < (0.003 if name in ("nested", "stages") else 0.7)}


def branches(rng, most, outline):
    kind = rng.random()
    if kind < (0.5 if outline else 0.01):
        return {"from": "outline", "prompt": rng.choice(["{item}", "\n{index}. {item}:", "", "{item}{item}{item}"]),
                "max": rng.randint(1, 6), "max_tokens": number(rng, most)}
    if kind < 0.6:
        return [{"max_tokens": 0, "prompt": rng.choice(["", "b"])}] * rng.choice([1, 64, 100, 128, 128, 128, 129])
    return [branch(rng, most) for _ in range(rng.randint(0 if kind < 0.61 else 1, 6))]


def stage(rng, most, before):
    one = {"type": rng.choice(["serial", "parallel"])}
    if one["type"] == "parallel":
        one["branches"] = branches(rng, most, before == "serial")
    elif rng.random() < 0.6:
        one["prompt"] = prompt(rng)
    if rng.random() < 0.7:
        one["max_tokens"] = number(rng, most)
    if rng.random() < 0.3:
        one["stop"] = stop(rng)
    if rng.random() < 0.01:
        one[rng.choice(["type", "branches", "n", "prompt"])] = rng.choice([None, 5, "", {}, "serial"])
    return one


def forking_grammar(server, fields, rng):
    """Tags that stand in what the model says in a grammar's order, around as many items as possible."""
    plain = {name: fields[name] for name in ("prompt", "temperature", "seed", "top_k", "repetition_penalty", "ignore_eos",
                                             "logit_bias") if name in fields}
    text = server.complete(**plain, max_tokens=14)["choices"][0]["text"]

    def items(tags):
        plan = "{0}[^{0}{1}{2}{3}]*((?:{1}[^{0}{1}{2}{3}]+{2})+){3}".format(*tags)
        found = re.match("[^" + "".join(tags) + "]*" + plan, text)
        return found.group(1).count(tags[1]) if found else 0
    plans = [tags for tags in itertools.combinations(text, 4) if len(set(tags)) == 4] or [LETTERS[:4]]
    tags = max(plans, key=items)
    ends = rng.sample([letter for letter in LETTERS if letter not in tags], 2)
    return dict(zip(("open", "item_open", "item_close", "fork", "path_end", "close"), [*tags, *ends]),
                path_prompt="{index}:{item}", join_prompt="=")


def request(rng, scripted):
    most = rng.choice([3, 8, 20, 60])
    fields = {"prompt": prompt(rng) or "x", "temperature": 0, "max_tokens": number(rng, most) or 1,
              "ignore_eos": rng.random() < 0.7}
    if scripted:
        fields["prompt"] = rng.choice("QLMNX:=\n")
    if rng.random() < 0.5:
        # At 0.12 the scripted model says another word than its script's once in twenty.
        fields.update(temperature=rng.choice([0.12, 0.7, 1, 30]), seed=rng.randrange(2**63))
    kind = rng.random()
    if kind < 0.6:
        fields["stages"] = []
        for _ in range(rng.choice([1, 2, 3, 4, 5, 16]) if kind < 0.595 else 17):
            fields["stages"].append(stage(rng, most, fields["stages"][-1]["type"] if fields["stages"] else None))
    elif kind < 0.75:
        fields.update(branching={"grammar": rng.choice(["multiverse", "npr"])}, max_tokens=rng.choice([5, 20, 50, 100]))
        if scripted:
            fields["prompt"] = rng.choice("MMNNX")
        else:
            fields.update(branching={"grammar": {}}, temperature=1, seed=rng.randrange(2**63), ignore_eos=True, prompt="x",
                          logit_bias={str(ord(letter) + 3): 50 for letter in LETTERS})
    else:
        fields["n"] = rng.choice([1, 2, 5, 16, 64]) if kind < 0.95 else number(rng, 4)
    for name, values in (("stop", None), ("cache_salt", ["", "a", "b" * 256]), ("logprobs", [0, 3]),
                         ("priority", [-5, 0, 9]), ("return_token_ids", [True]), ("echo", [True]),
                         ("timings", [True]), ("top_k", [1, 5]), ("repetition_penalty", [1.3, 0.5]),
                         ("min_tokens", [0, 2]), ("slo", [{"ttft_ms": 1}, {"tpot_ms": 0.5}])):
        if rng.random() < 0.12:
            fields[name] = rng.choice(values) if values else stop(rng)
    return fields


# --- clients


def told(choices, usage):
    usage = {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return usage, [(choice["text"], choice["finish_reason"]) for choice in choices]


def whole(server, fields):
    """What does not depend on who else is there: (status, ...)."""
    while True:
        status, _, text = server.request("POST", "/v1/completions", json.dumps(fields))
        if status != 503:
            break
        time.sleep(0.05)
    answer = json.loads(text)
    if status != 200:
        return status, answer["error"]["message"]
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return (200, *told(choices, answer["usage"]))


def streamed(server, fields, events):
    options = {"include_usage": True, "branch_events": events}
    while True:
        status, _, text = server.request("POST", "/v1/completions",
                                         json.dumps({**fields, "stream": True, "stream_options": options}))
        if status != 503:
            break
        time.sleep(0.05)
    if status != 200:
        return status, json.loads(text)["error"]["message"]
    pieces, reasons, usage = [], {}, None
    for chunk in parse_events(text):
        assert "error" not in chunk, chunk
        usage = chunk.get("usage") or usage
        place = chunk.get("espalier") or {"stage": -1, "branch": 0}
        for choice in chunk["choices"]:
            # Joined by stage and branch the events are the text; the prompt of an echo is before them.
            pieces.append((choice["index"], place["stage"], place["branch"], choice["text"]))
            if choice["finish_reason"]:
                assert choice["index"] not in reasons
                reasons[choice["index"]] = choice["finish_reason"]
    if events:
        pieces.sort(key=lambda piece: piece[:3])
    choices = [{"text": "".join(piece[3] for piece in pieces if piece[0] == index), "finish_reason": reasons[index]}
               for index in sorted(reasons)]
    return (200, *told(choices, usage))


def leave(server, fields, rng):
    """Takes some bytes, slowly or not, and is gone. None: nothing to compare."""
    options = {"branch_events": rng.random() < 0.5, "timings": True}
    body = {**fields, "stream": rng.random() < 0.8, "stream_options": options}
    if not body["stream"]:
        del body["stream_options"]
    with server.deaf(body) as client:
        client.settimeout(0.3)
        try:
            for _ in range(rng.randint(0, 4)):
                client.recv(rng.choice([1, 300, 5000]))
                time.sleep(rng.random() * 0.05)
        except TimeoutError:
            pass  # it has waited, or has read the answer's end


def act(server, fields, seed):
    rng = random.Random(seed)
    way = rng.random()
    if way < 0.3:
        return leave(server, fields, rng)
    if way < 0.5:
        return whole(server, fields)
    return streamed(server, fields, way < 0.75)


def watch(server, acts):
    """No block is lost or counted twice and nothing runs backwards while they are at it."""
    before = {}
    while not all(one.done() for one in acts):
        metrics = server.metrics()
        blocks = [value for (name, _), value in metrics.items() if name == "espalier_kv_blocks"]
        total = next(float(dict(labels)["num_gpu_blocks"]) for name, labels in metrics if name == "vllm:cache_config_info")
        assert sum(blocks) == total and min(blocks) >= 0, metrics
        assert min(metrics.values()) >= 0, metrics
        assert all(value >= before.get(name, 0) for name, value in metrics.items()
                   if name[0].endswith(("_total", "_count", "_bucket"))), (before, metrics)
        before = metrics
        time.sleep(0.05)


def storm(server, requests, alone, seed):
    order = list(range(len(requests))) * 2
    random.Random(seed).shuffle(order)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        acts = [pool.submit(act, server, requests[at], f"{seed}-{i}") for i, at in enumerate(order)]
        watch(server, acts)
        results = [one.result() for one in acts]
    for at, result in zip(order, results):
        assert result is None or result == alone[at], f"request {json.dumps(requests[at])}"


# --- the test


def generated(server):
    return server.metric("espalier_generation_tokens_total")


def check_counters(server, before, alone):
    expected = before + sum(result[1]["completion_tokens"] for result in alone if result[0] == 200)
    wait_for(lambda: generated(server) == expected, f"generated {expected} tokens")


def one_server(seed, model):
    rng = random.Random(seed)
    options, scripted = config(rng), not model.startswith("synthetic:")
    requests = [request(rng, scripted) for _ in range(REQUESTS)]
    print("seed", seed, model, " ".join(options), flush=True)
    server = Server(*options, model=model)
    try:
        for fields in requests:
            if fields.get("branching") == {"grammar": {}}:
                fields["branching"]["grammar"] = forking_grammar(server, fields, rng)
        server.wait_idle()  # what was asked so far is counted
        before = generated(server)
        alone = [whole(server, fields) for fields in requests]
        check_counters(server, before, alone)
        answered = sum(result[0] == 200 for result in alone)
        assert all(result[0] in (200, 400) for result in alone)
        storm(server, requests, alone, f"{seed}-first")
        server.wait_idle()
        resident = server.resident_bytes()
        storm(server, requests, alone, f"{seed}-second")
        server.wait_idle()
        assert server.resident_bytes() < resident + FLAT
        server.stop()
    except BaseException:
        print(server.words()[-4000:])
        raise
    finally:
        if server.process.poll() is None:
            server.process.kill()
    return answered


def test_storms_of_branches():
    with tempfile.TemporaryDirectory() as directory:
        scripted_model.make(pathlib.Path(directory), SCRIPT)
        models = [directory, "synthetic:tiny"]
        answered = [one_server(f"{SEED}-{i}", models[i % 2]) for i in range(ROUNDS)]
    assert sum(answered) >= ROUNDS * REQUESTS // 4, "too many refused to say anything"
