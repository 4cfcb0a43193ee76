"""`espalier replay` against a stub of known behaviour, odd servers, and the real one."""
import collections
import html
import http.server
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from espalier_server import ESPALIER, PATIENCE
from replay_runs import BRANCHING, ROOT, SERIAL, agreed, await_record, replay, run, same_again, stub, trace  # noqa: F401


# --- the stub: what is sent, what comes, what goes wrong

def test_a_run_has_the_tokens_and_prompts_of_its_trace(stub, trace, replay):
    done = replay("--trace", trace(*[SERIAL] * 8), "--url", stub("--ttft", 20, "--gap", 2))
    assert done.figures["completed"] == 8 and done.figures["output_tokens"] == 96
    assert [record["prompt_tokens"] for record in done.records] == [40] * 8
    assert done.figures["lengths"]["prompts_counted_by_server"] == 8
    assert done.figures["lengths"]["prompts_of_other_length"] == 0
    assert done.figures["prompts"]["exact"] and done.figures["prompts"]["source"] == "words"
    for record in done.records:
        times = [token[0] for token in record["tokens"]]
        assert times[0] - record["sent_us"] >= 20000 and times[-1] - record["sent_us"] >= 42000
        assert record["due_us"] == 5000 * record["index"] <= record["sent_us"] <= record["connected_us"]
        assert record["connected_us"] < record["first_byte_us"] <= times[0] <= record["end_us"]


REASONS = {
    "429": ("refused", "429 rate_limited"), "503": ("refused", "503 queue_full"), "400": ("refused", "400"),
    "500": ("failed", "500 internal"), "stall": ("failed", "stalled"), "silent": ("failed", "stalled"),
    "bad-json": ("failed", "malformed event"), "bad-line": ("failed", "malformed line of a stream"),
    "long-line": ("failed", "event over 1 MiB"), "early": ("failed", "closed early"),
    "reset": ("failed", "connection reset"), "no-answer": ("failed", "closed without an answer"),
    "error": ("failed", "error event stub_failure"), "html": ("failed", "200 without a stream"),
    "bad-http": ("failed", "malformed HTTP"), "bad-chunk": ("failed", "malformed HTTP"),
    "flood": ("failed", "far more tokens than were asked for"), "no-token": ("failed", "no token"),
    "no-done": ("completed", ""), "none": ("completed", ""), "open": ("completed", ""),
    "comments": ("failed", "stalled"),
}


def test_every_failure_is_told_from_every_other(stub, trace, replay):
    faults = list(REASONS)
    url = stub("--ttft", 5, "--gap", 1, "--faults", ",".join(faults))
    done = replay("--trace", trace(*[SERIAL] * 2 * len(faults), gap_ms=40), "--url", url, "--timeout", "2s")
    found = [(record["outcome"], record["reason"]) for record in done.records]
    # Two requests that a busy machine sends at once may arrive in the other order.
    assert collections.Counter(found) == collections.Counter([REASONS[fault] for fault in faults] * 2)
    counts = {(one["outcome"], one["reason"]): one["count"] for one in done.figures["reasons"]}
    assert counts == collections.Counter(one for one in found if one[1])
    assert {record["code"] for record in done.records} >= {"rate_limited", "queue_full", "internal", "stub_failure"}
    # What came before a failure is kept.
    halves = [record for record in done.records if record["reason"] in ("closed early", "connection reset", "stalled")]
    assert {len(record["tokens"]) for record in halves} == {0, 6}
    # An answer ends with its last byte, not when it is given up.
    ends = [record["end_us"] - record["sent_us"] for record in done.records if record["outcome"] == "completed"]
    assert max(ends) < 1e6
    table = run("--from", done.path).stdout
    assert all(reason in table for _, reason in REASONS.values())


def test_a_server_that_dies_ends_no_run(stub, trace, replay):
    url = stub("--ttft", 10, "--gap", 2, "--faults", ",".join(["none"] * 5 + ["die"]))
    done = replay("--trace", trace(*[SERIAL] * 20, gap_ms=20), "--url", url)
    reasons = {record["reason"] for record in done.records}
    assert done.figures["completed"] + done.figures["failed"] == 20 and done.figures["failed"] >= 14
    assert "connection refused" in reasons and reasons & {"closed early", "connection reset"}


def test_a_closed_loop_waits_for_answers(stub, trace, replay):
    done = replay("--trace", trace(SERIAL, BRANCHING), "--url", stub("--ttft", 5, "--gap", 1), "--concurrency", 3,
                  "--requests", 20, "--branches", "flat")
    assert done.figures["completed"] == 20
    moments = sorted([(record["sent_us"], 1) for record in done.records] +
                     [(record["end_us"], -1) for record in done.records])
    width = [sum(step for _, step in moments[:i + 1]) for i in range(len(moments))]
    assert max(width) == 3
    assert len({record["connected_us"] - record["sent_us"] for record in done.records}) > 1
    assert done.figures["branching"]["requests"] == 10


def test_a_closed_loop_ends_with_its_duration(stub, trace, replay):
    done = replay("--trace", trace(SERIAL), "--url", stub("--ttft", 5, "--gap", 1), "--concurrency", 2,
                  "--duration", "400ms")
    assert len(done.records) >= 2 and all(record["sent_us"] < 500000 for record in done.records)


def test_answers_that_never_end_hold_up_no_closed_loop(stub, trace, replay):
    url = stub("--ttft", 5, "--gap", 1, "--faults", "comments,open")
    done = replay("--trace", trace(SERIAL), "--url", url, "--concurrency", 1, "--requests", 6, "--timeout", "1s")
    assert [record["reason"] for record in done.records] == ["stalled", ""] * 3
    opened = [record["end_us"] - record["sent_us"] for record in done.records[1::2]]
    waited = [b["sent_us"] - a["end_us"] for a, b in zip(done.records[1::2], done.records[2::2])]
    assert max(opened) < 500000 and max(waited) < 500000


def test_random_arrivals_come_from_the_seed(stub, trace, replay):
    url = stub("--ttft", 1, "--gap", 1)
    due = []
    for seed in (5, 5, 6):
        done = replay("--trace", trace(SERIAL), "--url", url, "--rate", 200, "--requests", 30, "--seed", seed)
        due.append([record["due_us"] for record in done.records])
    assert due[0] == due[1] != due[2]
    assert 0.4 < due[0][-1] / (30 * 5000) < 2
    # What was offered is the rate of sending, however long the last answers took.
    assert done.figures["offered_rate"] == pytest.approx(30e6 / due[2][-1], rel=1e-9)
    assert done.figures["offered_rate"] == done.figures["send"]["rate_per_s"]


def test_what_was_offered_is_what_was_sent(stub, trace, tmp_path):
    record, page = tmp_path / "record.jsonl", tmp_path / "page.html"
    table = run("--trace", trace(*[SERIAL] * 5, gap_ms=10), "--url", stub("--ttft", 500, "--gap", 1), "--record", record,
                "--report", page).stdout
    assert re.search(r"offered, requests/s +100\n", table)
    text = html.unescape(page.read_text())
    assert "offered 100<" in text and "What follows: at 100 requests/s" in text
    figures = same_again(record)
    assert figures["offered_rate"] == figures["send"]["rate_per_s"] == pytest.approx(100)
    assert figures["goodput"]["requests_per_s"] == pytest.approx(5 / figures["scored_s"])
    together = run("--trace", trace(SERIAL, SERIAL, gap_ms=0), "--url", stub("--ttft", 5), "--json", "--report", page)
    assert json.loads(together.stdout)["offered_rate"] is None and "nan" not in page.read_text()


def test_the_traces_times_are_scaled(stub, trace, replay):
    done = replay("--trace", trace(SERIAL, SERIAL, SERIAL, gap_ms=10), "--url", stub("--ttft", 1, "--gap", 1),
                  "--rate-scale", "0.2")
    assert [record["due_us"] for record in done.records] == [0, 50000, 100000]


def test_a_late_generator_says_so(stub, trace, replay):
    request = {"prompt_tokens": 4000, "stages": [1]}
    done = replay("--trace", trace(*[request] * 1000, gap_ms=0.001), "--url", stub("--ttft", 1, "--gap", 1))
    assert done.figures["send"]["late"] and done.figures["send"]["late_share"] > 0.01
    assert "THE GENERATOR WAS LATE" in run("--from", done.path).stdout


def test_interruption_ends_the_run_with_its_report(stub, trace, tmp_path):
    url, record = stub("--ttft", 5, "--gap", 200), tmp_path / "record.jsonl"
    process = subprocess.Popen([ESPALIER, "replay", "--trace", trace(SERIAL, SERIAL, gap_ms=60000), "--url", url, "--json",
                                "--record", record], stdout=subprocess.PIPE, text=True)
    await_record(record)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    figures = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert process.returncode == 0 and figures["end"]["interrupted"]
    assert figures["unfinished"] == 1 and figures["requests"] == 1
    agreed(record, figures)


def test_what_does_not_end_is_given_up(stub, trace, replay):
    url = stub("--ttft", 5, "--gap", 1, "--faults", "stall,none")
    done = replay("--trace", trace(SERIAL, SERIAL), "--url", url, "--drain-timeout", "500ms")
    assert {record["outcome"] for record in done.records} == {"unfinished", "completed"}
    assert done.figures["end"]["drain_over"] and done.figures["slo_attainment"] == 0.5


def test_a_runs_duration_is_its_length(stub, trace, replay):
    url = stub("--ttft", 400, "--gap", 1)
    waits = []
    for options in ((), ("--duration", "1s"), ("--duration", "1s", "--drain-timeout", "0")):
        # The second request is due behind the end, the first one's answer comes before it.
        done = replay("--trace", trace(SERIAL, SERIAL, gap_ms=1200), "--url", url, *options)
        waits.append((done.figures["pacing"]["drain_timeout_s"], done.figures["completed"], done.end["drain_over"]))
    assert waits == [(300, 2, False), (30, 1, False), (0, 1, False)]


def test_a_search_finds_the_rate_at_which_the_server_gives_in(stub, trace, replay, tmp_path):
    # Half of what is sent is refused: 95 % is never reached; without refusals always.
    never = replay("--trace", trace(SERIAL), "--url", stub("--ttft", 1, "--gap", 1, "--faults", "none,503"),
                   "--goodput", "--rate", 400, "--requests", 20)
    assert never.figures["goodput"]["max_rate"] is None
    rates = [probe["rate_per_s"] for probe in never.figures["goodput_search"]["probes"]]
    assert rates == [400, 200, 100, 50, 25] and len(never.runs) == len(rates)
    always = replay("--trace", trace(SERIAL), "--url", stub("--ttft", 1, "--gap", 1), "--goodput", "--rate", 400,
                    "--requests", 20)
    # As far as this machine's generator keeps up.
    probes = always.figures["goodput_search"]["probes"]
    assert all(probe["attainment"] == 1 and probe["passed"] != probe["late"] for probe in probes)
    assert always.figures["goodput"]["max_rate"] == max((one["rate_per_s"] for one in probes if one["passed"]), default=None)
    shown = always.figures["goodput"]["max_rate"] or min(probe["rate_per_s"] for probe in probes)
    records = next(records for header, records, _ in always.runs if header["search"]["rate_per_s"] == shown)
    load_ms = max(record["due_us"] for record in records) / 1e3
    assert ("no steady load" in always.figures["notices"]) == (load_ms < 10 * always.figures["e2e_ms"]["mean"])


def test_a_generator_that_is_late_reaches_no_target(stub, trace, replay):
    done = replay("--trace", trace({"prompt_tokens": 4000, "stages": [1]}), "--url", stub("--ttft", 1, "--gap", 1),
                  "--goodput", "--rate", 1000000, "--requests", 1000)
    first = done.figures["goodput_search"]["probes"][0]
    assert first["late"] and first["attainment"] == 1 and not first["passed"]
    assert (done.figures["goodput"]["max_rate"] or 0) < 1000000


def test_no_proxy_stands_between(stub, trace, replay):
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
    assert replay("--trace", trace(SERIAL), "--url", stub("--gap", 1), env=environment).figures["completed"] == 1


# --- prompts

def test_the_servers_own_token_is_part_of_the_prompt(stub, trace, replay):
    done = replay("--trace", trace(SERIAL, {"prompt_tokens": 1, "stages": [2]}), "--url", stub("--bos", "--gap", 1))
    assert done.figures["prompts"]["added_by_server"] == 1
    assert [record["usage_prompt"] for record in done.records] == [40, 2]
    assert done.end["lengthened_prompts"] == 1 and "1 prompt was made longer" in done.figures["notices"]


def test_prompts_of_a_corpus_are_its_words(stub, trace, replay, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("Apples ripen early. Pears hang late on the wall where the sun keeps them warm in autumn, and "
                      "nobody picks a quince before frost has come over the garden twice, says my neighbour.\n" * 3)
    done = replay("--trace", trace(SERIAL), "--url", stub("--gap", 1), "--corpus", corpus)
    assert done.figures["prompts"]["source"] == "corpus" and done.records[0]["usage_prompt"] == 40


@pytest.mark.parametrize("options", [("--endpoint", "chat"), ("--prompt-ids",)])
def test_other_kinds_of_prompts_are_exact_too(stub, trace, replay, options):
    done = replay("--trace", trace(SERIAL, SERIAL), "--url", stub("--gap", 1, "--bos"), *options)
    assert [record["usage_prompt"] for record in done.records] == [40, 40] and done.figures["completed"] == 2


def test_long_prompts_are_cut_where_that_is_asked_for(stub, trace, replay):
    done = replay("--trace", trace(SERIAL, {"prompt_tokens": 4, "stages": [2]}), "--url", stub("--gap", 1),
                  "--max-prompt", 10)
    assert [record["usage_prompt"] for record in done.records] == [10, 4] and done.figures["end"]["cut_prompts"] == 1


# --- odd servers

class Odd(http.server.BaseHTTPRequestHandler):
    """Answers completions with `events`, knows no /tokenize; keeps what was asked."""
    protocol_version = "HTTP/1.1"
    events, asked, kind = [], [], "text/event-stream"
    tokenize = staticmethod(lambda body: None)

    def log_message(self, *_):
        pass

    def reply(self, status, kind, text):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        known = self.path == "/v1/models"
        self.reply(200 if known else 404, "application/json", b'{"data": [{"id": "odd"}]}' if known else b"{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            found = self.tokenize(body)
            self.reply(200 if found else 404, "application/json", json.dumps(found or {}).encode())
            return
        self.asked.append((dict(self.headers), body))
        self.reply(200, self.kind, b"".join(
            b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"
            for event in self.events))


@pytest.fixture
def odd():
    class Handler(Odd):
        asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_port}/v1/"
    yield Handler
    server.shutdown()
    server.server_close()


def choice(text="x", index=0, finish=None, **more):
    return {"choices": [{"index": index, "text": text, "finish_reason": finish, **more}]}


def usage(completion, prompt=40):
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


@pytest.mark.parametrize("events, tokens", [
    ([choice()] * 11 + [choice(finish="length")], 12),
    # An end without text is no token, unless the server counts it.
    ([choice()] * 12 + [choice("", finish="stop"), usage(12)], 12),
    ([choice()] * 11 + [choice("", finish="stop"), usage(12)], 12),
    # A part of a character is a token without text.
    ([choice()] * 11 + [choice(""), usage(12)], 12),
    ([choice("")] + [choice()] * 12 + [usage(12)], 12),
    # Chunks of several tokens: with their ids it is known, else the count is the server's.
    ([choice(token_ids=[1, 2, 3])] * 4, 12),
    ([choice()] * 4 + [usage(12)], 12),
    # A chat's first chunk only says who speaks.
    ([{"choices": [{"delta": {"role": "assistant", "content": ""}}]}] +
     [{"choices": [{"delta": {"content": "x"}}]}] * 12, 12),
    # llama.cpp: the end has no text and the usage.
    ([choice()] * 12 + [{**choice("", finish="length"), "usage": {"prompt_tokens": 40, "completion_tokens": 12}}], 12),
    # SGLang: who speaks, null for content, an end of its own, usage last.
    ([{"choices": [{"delta": {"role": "assistant", "content": "", "reasoning_content": None}}]}] +
     [{"choices": [{"delta": {"role": None, "content": None, "reasoning_content": "x"}}]}] * 5 +
     [{"choices": [{"delta": {"content": "x"}}]}] * 7 +
     [{"choices": [{"delta": {"content": None}, "finish_reason": "length"}]}, usage(12)], 12),
    # Two choices in one event, and nulls as vLLM sends them.
    ([{"choices": choice()["choices"] + choice(index=1)["choices"], "usage": None, "error": None}] * 6, 12),
])
def test_tokens_are_counted_as_servers_mean_them(odd, trace, replay, events, tokens):
    odd.events = events + [b"[DONE]"]
    done = replay("--trace", trace(SERIAL), "--url", odd.url)
    assert done.figures["completed"] == 1 and done.figures["output_tokens"] == tokens
    assert not done.figures["prompts"]["exact"] and "no /tokenize" in done.figures["prompts"]["check"]
    assert "Prompt lengths are estimated" in run("--from", done.path).stdout


@pytest.mark.parametrize("kind", ["Text/Event-Stream; charset=utf-8", "text/event-stream"])
def test_a_stream_is_known_by_its_type(odd, trace, replay, kind):
    odd.kind, odd.events = kind, [choice(), choice(finish="length"), b"[DONE]"]
    assert replay("--trace", trace(SERIAL), "--url", odd.url).figures["completed"] == 1


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_was_given_up_is_none(odd, trace, replay, reason):
    odd.events = [choice(), choice(finish=reason), usage(2), b"[DONE]"]
    done = replay("--trace", trace(SERIAL), "--url", odd.url, status=1)
    assert done.records[0]["reason"] == f"finish reason {reason}" and done.figures["failed"] == 1
    assert "no request was completed" in done.done.stderr


def test_llama_servers_tokenize_is_understood(odd, trace, replay):
    # Its text is "content", and without "add_special" it counts no BOS, which its completions have.
    def tokenize(body):
        words = body.get("content", "").split()
        return {"tokens": [1] * bool(body.get("add_special")) + [2 + sum(word.encode()) for word in words]}
    odd.tokenize, odd.events = staticmethod(tokenize), [choice(finish="length"), b"[DONE]"]
    done = replay("--trace", trace(SERIAL), "--url", odd.url)
    assert done.figures["prompts"]["exact"] and done.figures["prompts"]["added_by_server"] == 1
    assert len(odd.asked[0][1]["prompt"].split()) == 39


def test_limits_and_branches_reach_the_server(odd, trace, replay, tmp_path):
    odd.events = [choice(finish="stop"), b"[DONE]"]
    key = tmp_path / "key"
    key.write_text("# of the test\nsecret-7\n")
    path = trace(BRANCHING, SERIAL)
    for mode in ("stages", "n", "flat"):
        replay("--trace", path, "--url", odd.url, "--branches", mode, "--slo-ttft", "500ms", "--api-key-file", key)
    (staged, plain), (answers, _), (flat, _) = (
        sorted(odd.asked[i:i + 2], key=lambda one: "x-slo-tpot-ms" not in one[0]) for i in (0, 2, 4))
    assert all(headers["Authorization"] == "Bearer secret-7" for headers, _ in odd.asked)
    assert (staged[0]["x-slo-ttft-ms"], staged[0]["x-slo-tpot-ms"]) == ("2000", "50")
    assert plain[0]["x-slo-ttft-ms"] == "500" and "x-slo-tpot-ms" not in plain[0]
    kinds = [stage["type"] for stage in staged[1]["stages"]]
    assert kinds == ["serial", "parallel", "serial", "parallel", "serial"]
    assert [one["max_tokens"] for one in staged[1]["stages"][1]["branches"]] == [8, 5, 9]
    assert staged[1]["stream_options"] == {"include_usage": True, "branch_events": True}
    assert staged[1]["ignore_eos"] is True and staged[1]["stream"] is True and staged[1]["model"] == "odd"
    assert (answers[1]["n"], answers[1]["max_tokens"]) == (3, 9)
    assert flat[1]["max_tokens"] == 49 and "stages" not in flat[1] and plain[1]["max_tokens"] == 12


def test_equal_prefixes_are_equal_bytes(odd, trace, replay):
    odd.events = [choice(finish="stop"), b"[DONE]"]
    replay("--trace", trace({"prompt_tokens": 60, "prefix": [[1, 20], [2, 30]], "stages": [1]},
                            {"prompt_tokens": 60, "prefix": [[1, 20], [3, 30]], "stages": [1]},
                            {"prompt_tokens": 35, "prefix": [[1, 20], [2, 10]], "stages": [1]}),
           "--url", odd.url, "--concurrency", 1)
    one, two, three = (body["prompt"].split() for _, body in odd.asked)
    assert (len(one), len(two), len(three)) == (60, 60, 35)
    assert one[:20] == two[:20] == three[:20] and one[20:30] == three[20:30]
    assert one[20:50] != two[20:50] and one[50:] != two[50:] and one[30:35] != three[30:]


def random_answers(count):
    """Bytes that a broken server might send, cut out of sound answers and of nothing."""
    generator = random.Random(4)
    events = (b'data: {"choices":[{"index":0,"text":" a","finish_reason":null}],"espalier":'
              b'{"stage":0,"branch":1,"event":"token"}}\n\n', b"data: [DONE]\n\n", b"")
    sound = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
             b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events))
    for _ in range(count):
        answer = bytearray(sound)
        for _ in range(generator.randrange(4)):
            place = generator.randrange(len(answer))
            answer[place:place + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
        yield bytes(answer[:generator.randrange(len(answer))] if generator.random() < 0.2 else answer)


def test_no_byte_of_a_server_brings_it_down(trace, replay):
    answers = random_answers(200)
    models = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"data": [{"id": "odd"}]}'
    missing = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    def serve():
        for client in iter(lambda: listener.accept()[0], None):
            with client:
                head = client.recv(1 << 16)
                completion = head.startswith(b"POST /v1/completions")
                client.sendall(next(answers) if completion else models if b"/v1/models" in head else missing)
    with socket.create_server(("127.0.0.1", 0), backlog=300) as listener:
        threading.Thread(target=serve, daemon=True).start()
        done = replay("--trace", trace(*[SERIAL] * 200, gap_ms=1), "--timeout", "2s",
                      "--url", f"127.0.0.1:{listener.getsockname()[1]}")
    assert done.figures["requests"] == 200
    assert done.figures["failed"] > 50 and done.figures["completed"] > 10 and done.figures["unfinished"] == 0


# --- the real server

@pytest.mark.parametrize("mode, tokens", [("stages", 49), ("n", 27), ("flat", 49)])
def test_branches_on_the_real_server(server, trace, replay, mode, tokens):
    done = replay("--trace", trace(BRANCHING, SERIAL, BRANCHING, gap_ms=50), "--url", server.url, "--branches", mode)
    assert done.figures["completed"] == 3 and done.figures["output_tokens"] == 2 * tokens + 12
    assert done.figures["lengths"] == {
        "prompts_counted_by_server": 3, "prompts_of_other_length": 0, "answers_of_other_length": 0,
        "answers_with_several_tokens_a_chunk": 0, "staged_answers_without_branches": 0}
    first, _, again = done.records
    assert again["usage_cached"] == 32 and first["prompt_tokens"] == first["usage_prompt"] == 64
    counts = collections.Counter((stage, branch) for _, stage, branch in first["tokens"])
    if mode == "stages":
        assert counts == {(0, 0): 6, (1, 0): 8, (1, 1): 5, (1, 2): 9, (2, 0): 4, (3, 0): 7, (3, 1): 7, (4, 0): 3}
        kinds = [event[3] for event in first["events"]]
        assert kinds == ["fork"] * 3 + ["join"] + ["fork"] * 2 + ["join"]
    elif mode == "n":
        assert counts == {(0, 0): 9, (0, 1): 9, (0, 2): 9} and len(first["finishes"]) == 3
    else:
        assert counts == {(0, 0): 49}


def test_the_real_servers_refusals_are_told(server, trace, replay):
    done = replay("--trace", trace({"prompt_tokens": 5000, "stages": [4]}, SERIAL), "--url", server.url + "/v1")
    assert done.records[0]["reason"] == "400 context_length_exceeded" and done.figures["refused"] == 1
    assert "longer than the model's context" in done.done.stderr


@pytest.mark.parametrize("options, cached", [((), 512), (("--endpoint", "chat"), None), (("--prompt-ids",), 512),
                                             (("--corpus", ROOT / "docs" / "replay.md"), 512)])
def test_the_default_models_prompts_are_exact(smollm, trace, replay, options, cached):
    done = replay("--trace", trace({"prompt_tokens": 700, "prefix": [[3, 512]], "stages": [4]},
                                   {"prompt_tokens": 573, "prefix": [[3, 512]], "stages": [3, [2, 2]]}, gap_ms=2000),
                  "--url", smollm.url, *options)
    assert done.figures["prompts"]["exact"]
    assert [record["usage_prompt"] for record in done.records] == [700, 573]
    found = done.records[1]["usage_cached"]
    assert found == cached or (cached is None and found > 512)  # the template's beginning is shared, too


# --- what is said

def test_a_terminal_sees_where_the_run_is(stub, trace):
    parent, child = pty.openpty()
    done = subprocess.run([ESPALIER, "replay", "--trace", trace(*[SERIAL] * 4, gap_ms=100), "--url",
                           stub("--ttft", 50, "--gap", 1), "--json"], stdout=subprocess.PIPE, stderr=child,
                          timeout=PATIENCE)
    os.close(child)
    shown = b""
    while select.select([parent], [], [], 0)[0]:
        try:
            shown += os.read(parent, 65536)
        except OSError:  # nothing is left
            break
    os.close(parent)
    assert done.returncode == 0 and json.loads(done.stdout)["completed"] == 4
    assert re.search(rb"\r\x1b\[Kreplay  \d+ s  sent \d/4  [0-9.]+/s  in flight \d  done \d", shown)
    assert b"attainment 100 %" in shown and shown.endswith(b"\r\x1b[K")  # it leaves no trace


def test_a_page_is_written(stub, trace, replay, tmp_path):
    page = tmp_path / "page.html"
    replay("--trace", trace(*[SERIAL] * 5), "--url", stub("--gap", 1), "--report", page, "--rate", 40, "--requests", 4,
           "--slo-tpot", "50ms", "--prompt-seed", 7)
    text = html.unescape(page.read_text())
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))
    assert facts["arrivals"] == "Poisson, 40 requests/s, seed 0; at most 4 requests"
    assert facts["trace"].endswith("trace.jsonl (espalier), 4 requests") and facts["SLO"].startswith("TPOT 50 ms, ")
    assert facts["prompts"] == "words, checked with /tokenize; seed 7" and "{" not in "".join(facts.values())
    assert facts["sent as"] == "/v1/completions, branches as stages" and "libcurl" in facts["version"]
    assert "<svg" in text and "espalier replay --trace" in text and not re.search(r"(src|href)=.?https?:", text)


@pytest.mark.parametrize("arguments, words", [
    (["--url", "http://127.0.0.1:1"], "--trace is missing"),
    (["--trace", "TRACE"], "--url is missing"),
    (["--trace", "TRACE", "--url", "ftp://x"], "--url: found"),
    (["--trace", "TRACE", "--url", "http://"], '--url: found "http://", expected'),
    (["--trace", "TRACE", "--url", "http:///v1"], "--url: found"),
    (["--trace", "TRACE", "--url", "http://127.0.0.1:99999"], "a port from 1 to 65535"),
    (["--trace", "TRACE", "--url", "127.0.0.1:0"], "a port from 1 to 65535"),
    (["--trace", "TRACE", "--url", "http://x/?a=1"], "--url: found"),
    (["--trace", "TRACE", "--url", "x", "--rate", "0"], "--rate: found 0, allowed is above 0"),
    (["--trace", "TRACE", "--url", "x", "--rate", "-3"], "--rate: found -3, allowed is above 0"),
    (["--trace", "TRACE", "--url", "x", "--rate-scale", "0"], "--rate-scale: found 0, allowed"),
    (["--trace", "TRACE", "--url", "x", "--attainment", "2"], "--attainment: found 2, allowed"),
    (["--trace", "TRACE", "--url", "x", "--temperature", "-1"], "--temperature: found -1, allowed"),
    (["--trace", "TRACE", "--url", "x", "--seed", "-1"], "--seed: found '-1', allowed is 0 or more"),
    (["--trace", "TRACE", "--url", "x", "--slo-tpot", "fast"], '--slo-tpot: found "fast", allowed is a time'),
    (["--trace", "TRACE", "--url", "x", "--duration", "0s"], "allowed is 1us to 10000000s"),
    (["--trace", "TRACE", "--url", "x", "--branches", "tree"], "stages, n, flat"),
    (["--trace", "TRACE", "--url", "x", "--rate", "3", "--concurrency", "2"], "give one"),
    (["--trace", "TRACE", "--url", "x", "--goodput"], "--goodput needs"),
    (["--trace", "TRACE", "--url", "x", "--slo-kind", "best"], "mean, envelope, gaps, stages"),
    (["--from", "x", "--url", "y"], "--from reads a record"),
])
def test_wrong_usage_is_said(trace, arguments, words):
    path = str(trace(SERIAL))
    done = run(*[path if word == "TRACE" else word for word in arguments], status=2)
    assert words in done.stderr and not done.stdout


def test_what_is_read_is_not_written_over(stub, trace, replay, tmp_path):
    path, url = trace(SERIAL), stub("--gap", 1)
    done = replay("--trace", path, "--url", url)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "hard").hardlink_to(done.path)
    was = path.read_bytes(), done.path.read_bytes()
    run("--from", done.path, "--report", tmp_path / "hard", status=2)
    for options in (["--record", path], ["--report", tmp_path / "link"], ["--record", tmp_path / "x" / ".." / "new",
                    "--report", f"{tmp_path}/./new"], ["--record", tmp_path / "new", "--corpus", tmp_path / "new"]):
        (tmp_path / "x").mkdir(exist_ok=True)
        said = run("--trace", path, "--url", url, *options, status=2)
        assert "are the same file" in said.stderr and not said.stdout
    with path.open() as piped:
        run("--trace", "-", "--url", url, "--record", path, status=2, stdin=piped)
    assert was == (path.read_bytes(), done.path.read_bytes()) and not (tmp_path / "new").exists()
    run("--trace", path, "--url", url, "--record", "/dev/null", "--report", "/dev/null")


def test_what_is_ignored_is_said(stub, trace, replay):
    done = replay("--trace", trace(BRANCHING), "--url", stub("--gap", 1), "--branches", "flat", "--slo-tpot", "1us",
                  "--seed", 3)
    assert "every one of this trace's does; ignored" in done.done.stderr and "--seed is of" in done.done.stderr
    again = run("--from", done.path, "--rate", 2, "--requests=3", "--slo-ttft", "none", "--json")
    assert "ignored: --rate, --requests" in again.stderr
    figures = json.loads(again.stdout)
    assert figures["judged_anew"]["slo"] == {"ttft_ms": 0}
    agreed(done.path, figures)


def test_another_model_is_no_missing_tokenize(server, trace, replay):
    done = replay("--trace", trace(SERIAL), "--url", server.url, "--model", "nomodel", status=1)
    assert done.figures["prompts"]["check"].endswith("/tokenize answered 404 model_not_found")
    assert '--model: found "nomodel", which /v1/models does not name' in done.done.stderr


def test_a_server_that_never_answers_holds_up_nothing(trace):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = ["--trace", str(trace(SERIAL)), "--url", f"127.0.0.1:{silent.getsockname()[1]}"]
        begun = time.monotonic()
        assert "/v1/models: Operation timed out" in run(*options, "--timeout", "1s", status=1).stderr
        assert time.monotonic() - begun < 15
        process = subprocess.Popen([ESPALIER, "replay", *options], stdout=subprocess.DEVNULL,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as from a terminal
        kept = [silent.accept() for _ in range(2)]  # the runs' connections, open until the end
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT and time.monotonic() - begun < 15
        for connection, _ in kept:
            connection.close()


def test_what_cannot_be_had_is_said(trace, stub, tmp_path):
    path = trace(SERIAL)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "/v1/models: Failed to connect" in run("--trace", path, "--url", f"127.0.0.1:{port}", status=1).stderr
    assert "no.jsonl" in run("--trace", tmp_path / "no.jsonl", "--url", stub(), status=1).stderr
    few = run("--trace", path, "--url", stub(), "--concurrency", 500, status=1,
              preexec_fn=lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_NOFILE, (200, 200)))
    assert "needs 564 file descriptors" in few.stderr and "200" in few.stderr


def test_a_model_that_is_no_text_is_said(stub, trace):
    said = run("--trace", trace(SERIAL), "--url", stub(), "--model", b"\xff".decode(errors="surrogateescape"), status=2)
    assert "--model: " in said.stderr
