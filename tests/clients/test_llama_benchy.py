"""llama-benchy: prompt and generation speed at two depths and two concurrencies."""
import functools
import http.server
import json
import threading

import pytest
from conftest import ROOT, Ledger

PROMPT, OUTPUT, RUNS, DEPTHS, STREAMS = 128, 32, 2, (0, 64), (1, 4)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def book():
    """The text that prompts are cut from; its default is a book of Project Gutenberg."""
    handler = functools.partial(Quiet, directory=str(ROOT / "docs"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/architecture.md"
        server.shutdown()


def test_depths_and_concurrencies(smollm, tokenizer, run_client, tmp_path, book):
    """--skip-coherence: it asks for the capital of France at temperature 1,
    where so small a model may say anything."""
    ledger = Ledger(smollm)
    result, progress = tmp_path / "result.json", tmp_path / "progress.jsonl"
    run_client("llama-benchy", "--base-url", smollm.url + "/v1", "--model", smollm.model, "--tokenizer", tokenizer,
               "--book-url", book, "--pp", PROMPT, "--tg", OUTPUT, "--depth", *DEPTHS, "--concurrency", *STREAMS,
               "--runs", RUNS, "--exact-tg", "--skip-coherence", "--exit-on-first-fail",
               "--format", "json", "--save-result", result, "--emit-progress", progress)
    ends = [event for event in map(json.loads, progress.read_text().splitlines())
            if event["type"] == "request_end"]
    assert len(ends) == RUNS * sum(STREAMS) * len(DEPTHS)
    assert all(event["error"] == "" for event in ends)
    # It counts the ids of chunks that have text: a special token's and a cut UTF-8 character's have none.
    counts = [event["total_tokens"] for event in ends]
    assert max(counts) == OUTPUT and sum(counts) > 0.8 * OUTPUT * len(ends), counts
    # Its texts are cut out of the book by tokens; read again, the words at the cut may be one token fewer.
    for event in ends:
        assert min(abs(event["prompt_tokens"] - PROMPT - depth) for depth in DEPTHS) <= 2, event
    benchmarks = json.loads(result.read_text())["benchmarks"]
    assert [(b["context_size"], b["concurrency"]) for b in benchmarks] == [
        (depth, streams) for depth in DEPTHS for streams in STREAMS]
    for benchmark in benchmarks:
        for name in ("pp_throughput", "tg_throughput", "ttfr", "e2e_ttft"):
            assert benchmark[name]["mean"] > 0, name
        assert len(benchmark["e2e_ttft"]["values"]) == RUNS * benchmark["concurrency"]
    # Two warm-up requests of one token, one warm-up batch a test.
    batches = (RUNS + 1) * sum(STREAMS) * len(DEPTHS)
    ledger.check(batches + 2, batches * OUTPUT + 2)
