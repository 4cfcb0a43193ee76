#!/usr/bin/env python3
"""Fault ladders over the real server: tests/faults/run.sh tells what and why.

For every phase and every class of calls, the n-th call fails, n = 1, 2, 3 ... until the phase ends without having
met the fault; that is the end of the ladder. After each step the promises of faulty_server.py must hold.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import sys
import time

from faulty_server import CLASSES, Broken, Faults, Server, receive, stable
from quantize_ladder import quantize_ladders, quantized_model
from tiny_gguf import write_tiny_gguf

PROBE = {"prompt": "The quick brown fox", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
HERE = pathlib.Path(__file__).parent
UNTIL_RELIEF = 0  # fault_inject.c
WORDS = "hello wide world, "
ERROR_FIELDS = {"message", "type", "param", "code"}

# --- what a client may see of a request that met a fault


def judge(answer, expected):
    """A word for how a valid request ended: whole, refused or closed."""
    if answer is None or "X-Broken-Off" in answer[1]:
        return "closed"
    status, headers, text = answer
    if status == expected[0]:
        if set(headers) != set(expected[1]):
            raise Broken(f"headers {sorted(headers)} instead of {sorted(expected[1])}")
        if stable(text) != stable(expected[2]):
            raise Broken(f"a wrong answer: {text[:600]}\ninstead of: {expected[2][:600]}")
        return "whole"
    if status not in (500, 503):
        raise Broken(f"status {status} for a valid request: {text[:300]}")
    error = json.loads(text)["error"]
    if set(error) != ERROR_FIELDS:
        raise Broken(f"an error of another form: {text[:300]}")
    if status == 503 and "Retry-After" not in headers:
        raise Broken("503 without Retry-After")
    return "refused"


def judge_stream(answer, expected):
    """A stream is whole, or it ends with an error event and [DONE], or it breaks off; what came is right."""
    if answer is None or answer[0] != 200:
        return judge(answer, expected)
    if set(answer[1]) - {"X-Broken-Off"} != set(expected[1]):
        raise Broken(f"headers {sorted(answer[1])} instead of {sorted(expected[1])}")
    events, right = answer[2].split("\n\n"), expected[2].split("\n\n")
    if "X-Broken-Off" in answer[1]:
        events = events[:-1]  # the last one may be a part
    elif events[-2:] != ["data: [DONE]", ""]:
        raise Broken(f"a stream without [DONE]: {answer[2][-300:]}")
    failed = len(events) > 2 and events[-3].startswith('data: {"error"')
    said = events[:-3] if failed else events
    if [stable(one) for one in said] != [stable(one) for one in right[:len(said)]]:
        raise Broken(f"a wrong stream: {answer[2][-600:]}")
    return "closed" if "X-Broken-Off" in answer[1] else "refused" if failed else "whole"


def post(path, body, judged=judge):
    return lambda server: server.ask("POST", path, body), judged


def get(path):
    """Only the form of an answer is compared: its numbers move."""
    return lambda server: blur(server.ask("GET", path)), judge


def blur(answer):
    return answer and (answer[0], answer[1], re.sub(r"[0-9.e+-]+$", "0", answer[2], flags=re.M))


COMPLETION = {**PROBE, "n": 2, "stop": ["zq", "!!!!"], "return_token_ids": True, "echo": True}
CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [
    {"type": "text", "text": WORDS * 3}, {"type": "text", "text": "\u00e9\u4e2d"}]}],
    "max_tokens": 8, "temperature": 0, "ignore_eos": True}

# An outline behind a list, a join that nobody sees, stops that cut tokens, and a stage that goes on from all of it.
STAGED = {**PROBE, "stop": ["zq"], "return_token_ids": True, "logprobs": 1, "stages": [
    {"type": "serial", "prompt": "\n- ", "max_tokens": 4},
    {"type": "parallel", "branches": {"from": "outline", "prompt": "{index} {item}", "max": 3}, "max_tokens": 3},
    {"type": "parallel", "branches": [{}, {"prompt": "b"}, {"prompt": [5, 6], "max_tokens": 0}], "max_tokens": 5,
     "stop": ["e", "a", " "]},
    {"type": "serial", "prompt": "so", "max_tokens": 4}]}
# The synthetic model knows no tags: biases let it say 12 letters (ids: 3 more), and with this seed it says the tags
# in order, two paths and what is behind their join.
FORKING = {**PROBE, "prompt": "x", "temperature": 1, "seed": 889, "max_tokens": 40,
           "logit_bias": {str(ord(letter) + 3): 50 for letter in "abcdefghijkl"},
           "branching": {"grammar": {
               "open": "g", "item_open": "h", "item_close": "k", "fork": "d", "path_end": "e", "close": "f",
               "path_prompt": "{index}:{item}", "join_prompt": "="}}}

# name: (the request, how it is judged). Every one of them is valid.
REQUESTS = {
    "completion": post("/v1/completions", COMPLETION),
    "two prompts": post("/v1/completions", {**PROBE, "prompt": ["one", "two"]}),
    "token ids": post("/v1/completions", {**PROBE, "prompt": [5, 6, 7, 8]}),
    "chat": post("/v1/chat/completions", CHAT),
    "large prompt": post("/v1/completions", {**PROBE, "prompt": WORDS * 80, "max_tokens": 4}),
    "stream": post("/v1/completions", {**COMPLETION, "stream": True}, judge_stream),
    "chat stream": post("/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
                        judge_stream),
    "stages": post("/v1/completions", STAGED),
    "stages stream": post("/v1/completions", {**STAGED, "stream": True, "stream_options": {"branch_events": True}},
                          judge_stream),
    "branching": post("/v1/completions", FORKING),
    "tokenize": post("/tokenize", {"prompt": WORDS * 100}),
    "detokenize": post("/detokenize", {"tokens": list(range(1, 200))}),
    "models": get("/v1/models"),
    "openapi": get("/openapi.json"),
    "health": get("/health"),
    "metrics": get("/metrics"),
}

# --- ladders


class Tally:
    def __init__(self, quick):
        self.quick, self.passed, self.failed = quick, 0, 0

    def ladder(self, name, step):
        """step(n) -> (a word for the outcome, whether the fault was met, what failed)."""
        outcomes, began, n, failures = collections.Counter(), time.monotonic(), 1, 0
        while True:
            try:
                outcome, met, _ = step(n)
            except Broken as broken:
                failures += 1
                outcome, met = "BROKEN", True
                if failures <= 5:
                    print(f"  {name}, n = {n}: {getattr(broken, 'what', '')}: {broken}", flush=True)
            if not met:
                break
            outcomes[outcome] += 1
            n += 1 + n // 8 if self.quick else 1
        self.passed += sum(outcomes.values()) - failures
        self.failed += failures
        words = ", ".join(f"{count} {word}" for word, count in sorted(outcomes.items()))
        print(f"{name:34} up to {n - 1:5}: {words or 'no such call'}  ({time.monotonic() - began:.1f} s)", flush=True)


class House:
    """One server through many steps; a new one after a step that broke it."""

    def __init__(self, options, faults):
        self.options, self.faults, self.server = options, faults, None

    def open(self):
        if self.server is None:
            self.server = Server(self.options.espalier, self.faults, "synthetic:tiny")
            if not self.server.wait_ready():
                raise SystemExit("the server does not start: " + self.server.words())
            self.server.learn(PROBE)
        return self.server

    def drop(self):
        self.server.kill()
        self.server = None

    def close(self, tally):
        """The end of a server that saw all those faults: status 0, nothing leaked."""
        server = self.open()
        try:
            server.stop()
            tally.passed += 1
        except Broken as broken:
            tally.failed += 1
            print(f"  the end after all requests: {broken}", flush=True)
        finally:
            self.drop()

    def step(self, kind, request, judged, expected, burst):
        def run(n):
            server = self.open()
            try:
                self.faults.arm(kind, n, burst)
                answer = request(server)
                met, what = self.faults.fired > 0, self.faults.what
                self.faults.disarm()
                outcome = judged(answer, expected)
                server.check_sound()
                return outcome, met, what
            except Broken as broken:
                self.faults.disarm()
                broken.what = self.faults.what
                self.drop()
                raise
        return run


def request_ladders(options, tally, faults):
    house = House(options, faults)
    for name, (request, judged) in REQUESTS.items():
        if not re.search(options.only, name):
            continue
        expected = request(house.open())
        for kind in CLASSES:
            if kind in ("thread", "write") or not re.search(options.kind, kind):
                continue
            for burst, words in ((1, ""), (UNTIL_RELIEF, ", from then on")) if kind == "memory" else ((1, ""),):
                tally.ladder(f"{name}: {kind}{words}",
                             house.step(kind, request, judged, expected, burst))
    house.close(tally)


def load_step(options, faults, kind, model, answer):
    def run(n):
        faults.arm(kind, n)
        server = Server(options.espalier, faults, *model)
        try:
            ready = server.wait_ready()
            met, what = faults.fired > 0, faults.what
            faults.disarm()
            if ready:
                if stable(server.value("POST", "/v1/completions", PROBE)) != answer:
                    raise Broken("it serves, but its answer is another")
                server.stop()
                return "served", met, what
            server.check_end(1)
            errors = [line for line in server.words().splitlines() if not line.startswith("espalier: warning:")]
            if len(errors) != 1 or not re.fullmatch(r"espalier: error: .{10,}", errors[0]):
                raise Broken(f"not refused in one line: {errors}")
            return "refused", met, what
        except Broken as broken:
            faults.disarm()
            broken.what = faults.what
            raise
        finally:
            server.kill()
    return run


def load_ladders(options, tally, faults, models):
    for name, model in models.items():
        if not re.search(options.only, "load " + name):
            continue
        server = Server(options.espalier, faults, *model)
        if not server.wait_ready():
            raise SystemExit("the server does not start: " + server.words())
        answer = stable(server.value("POST", "/v1/completions", PROBE))
        server.stop()
        server.kill()
        for kind in CLASSES:
            if re.search(options.kind, kind):
                tally.ladder(f"load {name}: {kind}", load_step(options, faults, kind, model, answer))


def shutdown_step(options, faults, kind, streaming):
    body = {**PROBE, "n": 2, "max_tokens": 100, "stream": True}
    known = []  # the answer, asked for once

    def run(n):
        server = Server(options.espalier, faults, "synthetic:tiny")
        try:
            if not server.wait_ready():
                raise Broken("it does not start")
            if streaming and not known:
                known.append(server.ask("POST", "/v1/completions", body))
            client = server.send("POST", "/v1/completions", body) if streaming else None
            while streaming and client.recv(1 << 16, 2) == b"":  # MSG_PEEK: it has begun
                pass
            faults.arm(kind, n)
            server.process.send_signal(signal.SIGTERM)
            outcome = "ended"
            if streaming:
                with client:
                    outcome = judge_stream(receive(client, "POST"), known[0])
            server.check_end(0)
            met, what = faults.fired > 0, faults.what
            faults.disarm()
            return outcome, met, what
        except Broken as broken:
            faults.disarm()
            broken.what = faults.what
            raise
        finally:
            server.kill()
    return run


def shutdown_ladders(options, tally, faults):
    for name, streaming in (("shutdown", False), ("shutdown in a stream", True)):
        for kind in CLASSES:
            if kind != "write" and re.search(options.only, name) and re.search(options.kind, kind):
                tally.ladder(f"{name}: {kind}", shutdown_step(options, faults, kind, streaming))


# --- a machine that really has no more: large requests against a limit of the address space

LARGE = (("/detokenize", {"tokens": [9] * 600000}),
         ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 3900000}]}),
         ("/v1/completions", {"prompt": "ab", "n": 16, "max_tokens": 200, "ignore_eos": True}))


def besieged(server, mib):
    """What 12 large requests at once get with `mib` more than the server has: too much of them is 400 or 503."""
    with server.room_for(mib << 20), concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: server.ask("POST", *LARGE[i % 3]), range(12)))
    for answer in answers:
        if answer and answer[0] not in (200, 400, 503):
            raise Broken(f"status {answer[0]}: {answer[2][:300]}")
    return sum(answer is not None and answer[0] == 503 and '"no_memory"' in answer[2] for answer in answers)


def shortages(options, tally, faults):
    house = House(options, faults)
    if not re.search(options.only, "shortage") or not house.open().has_room_limit():
        return
    for mib in (1, 4, 16, 64):
        try:
            refused = besieged(house.open(), mib)
            house.open().check_sound()
            if mib == 1 and not refused:
                raise Broken("nothing was refused for want of memory")
            tally.passed += 1
            print(f"shortage: {mib} MiB more: {refused} of 12 large requests refused", flush=True)
        except Broken as broken:
            tally.failed += 1
            print(f"  shortage: {mib} MiB more: {broken}", flush=True)
            house.drop()
    house.close(tally)


def models_in(espalier, work):
    """{name: what --model takes, more options}: one of every kind."""
    golden, model = HERE.parent / "data/golden/llama_ropescale_bf16", work / "safetensors"
    model.mkdir()
    for file in golden.iterdir():
        (model / file.name).symlink_to(file)
    (model / "chat_template.jinja").write_text("{% for m in messages %}<|im_start|>{{ m }}<|im_end|>{% endfor %}")
    write_tiny_gguf(work / "tiny.gguf")
    gguf = str(work / "tiny.gguf")
    return {"synthetic": ["synthetic:tiny"], "gguf": [gguf], "safetensors": [str(model)],
            "quantized": [quantized_model(espalier, gguf, work / "quantized")],
            "cached": [gguf, "--weights", "vsq4z"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("espalier")
    parser.add_argument("work", type=pathlib.Path, help="a directory with fault_inject.so, for files")
    parser.add_argument("--quick", action="store_true", help="n = 1 to 9, then each an eighth larger than the last")
    parser.add_argument("--only", default="", help="a pattern for the names of phases")
    parser.add_argument("--kind", default="", help="a pattern for the classes of calls")
    options = parser.parse_args()
    tally, faults = Tally(options.quick), Faults(str(options.work / "fault_inject.so"))
    os.environ["XDG_CACHE_HOME"] = str(options.work / "cache")
    models = models_in(options.espalier, options.work)
    load_ladders(options, tally, faults, models)
    quantize_ladders(options, tally, faults, models)
    request_ladders(options, tally, faults)
    shutdown_ladders(options, tally, faults)
    shortages(options, tally, faults)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 0 if tally.passed and not tally.failed else 1


if __name__ == "__main__":
    sys.exit(main())
