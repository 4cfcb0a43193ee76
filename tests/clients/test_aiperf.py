"""aiperf: its report against what was asked for and what the server counted, and its scrape of /metrics."""
import json

import pytest
from conftest import Ledger

REQUESTS, PROMPT, OUTPUT, STREAMS = 12, 64, 32, 4


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_concurrent_streams(smollm, tokenizer, run_client, tmp_path, kind):
    ledger = Ledger(smollm)
    # HF_HUB_OFFLINE makes aiperf take a directory for a repository's name; with the directory alone
    # it needs no network either.
    run_client("aiperf", "profile", "--model", smollm.model, "--url", smollm.url, "--endpoint-type", kind,
               "--streaming", "--tokenizer", tokenizer, "--concurrency", STREAMS, "--request-count", REQUESTS,
               "--synthetic-input-tokens-mean", PROMPT, "--synthetic-input-tokens-stddev", 0,
               "--output-tokens-mean", OUTPUT, "--output-tokens-stddev", 0,
               "--extra-inputs", "ignore_eos:true", "--use-server-token-count", "--random-seed", 1,
               "--ui", "none", "--artifact-dir", tmp_path, offline=False)
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == REQUESTS and report["request_error_rate"]["avg"] == 0
    assert report["error_summary"] == [] and report["is_complete"]
    tokens = report["output_sequence_length"]
    assert (tokens["min"], tokens["max"]) == (OUTPUT, OUTPUT)
    prompts = report["input_sequence_length"]
    assert prompts["min"] == prompts["max"] >= PROMPT
    ttft, itl, latency = (report[name]["avg"] for name in
                          ("time_to_first_token", "inter_token_latency", "request_latency"))
    assert 0 < ttft < latency and itl > 0
    assert ttft + (OUTPUT - 1) * itl == pytest.approx(latency, rel=0.15, abs=20)
    ledger.check(REQUESTS, REQUESTS * OUTPUT, REQUESTS * prompts["avg"])
    ledger.check_times(ttft, latency)

    scraped = json.loads((tmp_path / "server_metrics_export.json").read_text())
    assert scraped["summary"]["endpoints_successful"] == [smollm.url + "/metrics"]
    assert "espalier_time_to_first_token_seconds" in scraped["metrics"]
    assert "vllm:num_requests_running" in scraped["metrics"]
