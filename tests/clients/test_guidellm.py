"""guidellm: its report against what was asked for and what the server counted."""
import json

import pytest
from conftest import Ledger

REQUESTS, PROMPT, OUTPUT, STREAMS = 12, 64, 32, 4


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_concurrent_streams(smollm, tokenizer, run_client, tmp_path, path):
    ledger = Ledger(smollm)
    report = tmp_path / "report.json"
    run_client("guidellm", "run",
               "--backend", f"kind=openai_http,target={smollm.url},model={smollm.model},request_format={path}",
               "--profile", f"kind=concurrent,streams={STREAMS}",
               "--constraint", f"kind=max_requests,count={REQUESTS}",
               "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
               "--data", f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={OUTPUT}",
               "--output", f"kind=json,path={report}", "--disable-console")
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    state = benchmark["scheduler_state"]
    assert (state["successful_requests"], state["errored_requests"], state["cancelled_requests"]) == (REQUESTS, 0, 0)
    requests = benchmark["requests"]["successful"]
    assert len(requests) == REQUESTS and not benchmark["requests"]["errored"]
    assert {request["output_tokens"] for request in requests} == {OUTPUT}
    # One token a chunk. It counts those with text: a special token's and a cut UTF-8 character's have none.
    chunks = [request["info"]["timings"]["token_iterations"] for request in requests]
    assert max(chunks) == OUTPUT and sum(chunks) > 0.8 * OUTPUT * REQUESTS, chunks
    extra = {request["prompt_tokens"] - PROMPT for request in requests}
    if path == "/v1/completions":
        assert extra == {0}
    else:
        assert len(extra) == 1 and extra.pop() > 0  # the template
    for request in requests:
        ttft, itl = request["time_to_first_token_ms"], request["inter_token_latency_ms"]
        assert ttft > 0 and itl > 0
        spent = 1000 * request["request_latency"]
        assert ttft + (OUTPUT - 1) * itl == pytest.approx(spent, rel=0.15, abs=20)  # the last may be silent
    ledger.check(REQUESTS, REQUESTS * OUTPUT, sum(request["prompt_tokens"] for request in requests))
    metrics = benchmark["metrics"]
    ledger.check_times(metrics["time_to_first_token_ms"]["successful"]["mean"],
                       1000 * metrics["request_latency"]["successful"]["mean"])
