#!/usr/bin/env python3
"""The same steady load measured by `espalier replay` and by aiperf: run by replay_vs_aiperf.sh.

A request every 1 / --rate seconds (or, with --concurrency, a closed loop), prompts of --prompt tokens that nobody
sent before, answers of --output tokens, --requests of them. The two tools take turns on one server; each turn's
figures are its median and its mean over all requests, and the medians of the turns are compared: TPOT within 3 %, TTFT
within the larger of 5 % and 3 ms (issue 7). The server has one thread and a core,
replay another core, aiperf's processes what they find; all go before everything else on the machine where that is
allowed. A busy machine drowns the comparison all the same: give it an idle one. With --stub the server is
bench/stub_server, whose times are known.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def go_first():
    """In the child: its session's share of the processor before everybody else's, where that is allowed."""
    try:
        pathlib.Path("/proc/self/autogroup").write_text("-20")
    except OSError:
        pass


FIRST = {"start_new_session": True, "preexec_fn": go_first}


def start(arguments, log):
    """(process, URL) of a server that serves."""
    command = [ROOT / "build" / "stub_server", "--ttft", 50, "--gap", 20] if arguments.stub else [
        ROOT / "build" / "espalier", "serve", "--model", arguments.model, "--port", 0, "--threads", 1]
    process = subprocess.Popen(["taskset", "-c", "1", *map(str, command)], stdin=subprocess.DEVNULL,
                               stdout=log, stderr=log, **FIRST)
    for _ in range(1200):
        found = re.search(rb"(?:on|listening on) (http://127\.0\.0\.1:\d+)", os.pread(log.fileno(), 1 << 20, 0))
        if found:
            return process, found.group(1).decode()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit("the server did not start: " + os.pread(log.fileno(), 1 << 20, 0).decode())


def by_replay(arguments, url, scratch, turn):
    trace = scratch / "trace.jsonl"
    gap_ms = 0 if arguments.concurrency else 1000 / arguments.rate
    trace.write_text("".join(json.dumps({"arrival_ms": i * gap_ms, "prompt_tokens": arguments.prompt,
                                         "stages": [arguments.output]}) + "\n" for i in range(arguments.requests)))
    load = ["--concurrency", arguments.concurrency] if arguments.concurrency else []
    command = ["taskset", "-c", "0", ROOT / "build" / "espalier", "replay", "--trace", trace, "--url", url, "--json",
               *load]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, **FIRST)
    figures = json.loads(done.stdout)
    assert figures["completed"] == arguments.requests, figures["reasons"]
    return [figures[name][figure] for name in ("ttft_ms", "tpot_ms") for figure in ("p50", "mean")]


def by_aiperf(arguments, url, scratch, turn):
    folder = scratch / f"aiperf-{turn}"
    model = "stub" if arguments.stub else pathlib.Path(arguments.model).stem
    load = ["--concurrency", arguments.concurrency] if arguments.concurrency else [
        "--request-rate", arguments.rate, "--arrival-pattern", "constant"]
    command = [pathlib.Path(sys.executable).parent / "aiperf", "profile", "--model", model, "--url", url,
               "--endpoint-type", "completions", "--streaming", "--tokenizer", scratch / "tokenizer", *load,
               "--request-count", arguments.requests, "--num-dataset-entries", arguments.requests,
               "--synthetic-input-tokens-mean", arguments.prompt, "--synthetic-input-tokens-stddev", 0,
               "--output-tokens-mean", arguments.output, "--output-tokens-stddev", 0,
               "--extra-inputs", "ignore_eos:true", "--extra-inputs", "temperature:0", "--use-server-token-count", "--random-seed", turn + 1, "--ui", "none",
               "--artifact-dir", folder]
    environment = {**os.environ, "HOME": str(scratch), "OPENAI_API_KEY": "none", "DO_NOT_TRACK": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, cwd=scratch, capture_output=True, text=True,
                          timeout=300, **FIRST)
    if done.returncode:
        sys.exit(done.stdout[-4000:] + done.stderr[-4000:])
    report = json.loads((folder / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == arguments.requests
    assert report["output_sequence_length"]["min"] == arguments.output
    return [report[name][figure] for name in ("time_to_first_token", "inter_token_latency") for figure in ("p50", "avg")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1)
    parser.add_argument("--concurrency", type=int, default=0)
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--stub", action="store_true")
    arguments = parser.parse_args()
    tools = {"replay": by_replay, "aiperf": by_aiperf}
    found = {name: [] for name in tools}
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as log:
        scratch = pathlib.Path(name)
        subprocess.run([sys.executable, ROOT / "tests" / "clients" / "gguf_tokenizer.py", arguments.model,
                        scratch / "tokenizer"], check=True)
        server, url = start(arguments, log)
        try:
            by_replay(arguments, url, scratch, 0)  # warms up
            for turn in range(arguments.turns):
                for tool, measure in tools.items():
                    found[tool].append(measure(arguments, url, scratch, turn))
                    ttft, ttft_mean, tpot, tpot_mean = found[tool][-1]
                    print(f"turn {turn + 1} {tool:7} TTFT {ttft:8.2f} (mean {ttft_mean:8.2f}) ms  TPOT {tpot:7.3f} (mean {tpot_mean:7.3f}) ms", flush=True)
        finally:
            server.kill()
            server.wait()
    missed = False
    bounds = ("TTFT, median", 0.05, 3), ("TTFT, mean", 0.05, 3), ("TPOT, median", 0.03, 0), ("TPOT, mean", 0.03, 0)
    for i, (what, share, slack_ms) in enumerate(bounds):
        ours, theirs = (statistics.median(turn[i] for turn in found[tool]) for tool in tools)
        allowed = max(share * theirs, slack_ms)
        good = abs(ours - theirs) <= allowed
        missed |= not good
        print(f"{'PASS' if good else 'FAIL'} {what}: replay {ours:.3f} ms, aiperf {theirs:.3f} ms, apart "
              f"{abs(ours - theirs):.3f} ms ({100 * abs(ours / theirs - 1):.1f} %), allowed {allowed:.3f} ms")
    sys.exit(missed)


if __name__ == "__main__":
    main()
