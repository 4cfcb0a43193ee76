#!/usr/bin/env python3
"""What branches of one prefix cost, each figure beside its bound; started by branches.sh.

Attention over branches beside its floor, the prefix tree at a million blocks and the tick that forks (`espalier bench --forest`,
`--tree`, `--fork`); then
over HTTP, where llama-server stands beside it: eight questions on one document (prefix_cache.py), and n = 8 answers of one
prompt beside one answer of it. llama-server gets eight slots and its Q8_0 of the same model.
"""
import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import prefix_cache

ANSWERS, ANSWER_TOKENS, PROMPT_TOKENS = 8, 64, 500
NEVER = {"0": -100, "2": -100}  # the model's two ends: every answer has all its tokens


def bench(args, *options):
    command = [args.espalier, "bench", *options, "--model", args.model, "--threads", str(args.threads), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


# --- over HTTP

def answers_ms(url, text, n):
    """Milliseconds until all n answers are there."""
    body = {"prompt": text, "n": n, "max_tokens": ANSWER_TOKENS, "temperature": 1, "seed": 1, "logit_bias": NEVER}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    begin = time.monotonic()
    with urllib.request.urlopen(request) as answer:
        doc = json.load(answer)
    took = (time.monotonic() - begin) * 1000
    if len(doc["choices"]) != n:
        sys.exit(f"{url} gave {len(doc['choices'])} of {n} answers")
    return took


def measure_answers(url, repeats):
    one = [answers_ms(url, prefix_cache.document(f"one{i}", PROMPT_TOKENS), 1) for i in range(repeats)]
    many = [answers_ms(url, prefix_cache.document(f"many{i}", PROMPT_TOKENS), ANSWERS) for i in range(repeats)]
    one_ms, many_ms = statistics.median(one), statistics.median(many)
    return {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS, "one_ms": round(one_ms, 1),
            "eight_ms": round(many_ms, 1), "eight_over_one": round(many_ms / one_ms, 3),
            "tokens_per_s": round(1000 * ANSWERS * ANSWER_TOKENS / many_ms, 1)}


def measure_server(url, args):
    answers_ms(url, "warm", 1)
    return {"document": prefix_cache.measure(url, args.tokens, args.repeats), "answers": measure_answers(url, args.repeats)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(url, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"llama-server ended with {server.returncode} before it served")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(url + "/health"):
                return
        time.sleep(0.1)
    sys.exit("llama-server was not ready within a minute")


@contextlib.contextmanager
def serving_llama(args):
    port = free_port()
    server = subprocess.Popen([args.llama_server, "-m", args.llama_model, "-t", str(args.threads), "--parallel", str(ANSWERS), "-c",
                               str(ANSWERS * 4096), "--host", "127.0.0.1", "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()


# --- report

def check(name, value, bound):
    return {"check": name, "value": round(value, 4), "bound": bound, "pass": value <= bound}


def checks_of(doc):
    forest, document = doc["forest"], doc["espalier"]["document"]
    branches, strangers = forest["branches"], forest["strangers"]
    forks = doc["fork"]["prefixes"]
    prefix_and_tails = forest["prefix"] + forest["rows"] * (forest["own"] + 256)  # a chunk's worth of tail a row
    return [check("attention of 8 branches, of its floor", branches["of_floor"], 1.5),
            check("KV slots read by 8 branches, of prefix once + tails", branches["slots_read"] / prefix_and_tails, 1.0),
            check("time of 8 branches, of 8 strangers", branches["step_ms"] / strangers["step_ms"], 1.0),
            check("fork of 8 branches, microseconds, prefix 8,000", forks[1]["fork_us"], 100),
            check("fork on a prefix of 64,000, of 1,000", forks[2]["fork_us"] / forks[0]["fork_us"], 2.0),
            check("blocks of 8 new branches beside the prefix", forks[1]["blocks_own"], forks[1]["branches"]),
            check("first token, 2nd to 8th question after the 1st", document["later_over_first"], 0.1),
            check("first token, all eight together: the last behind the first", document["together_last_behind_first"], 0.1)]


def print_report(doc):
    tree, forest = doc["tree"], doc["forest"]
    print(f"attention, prefix of {forest['prefix']} tokens, {forest['rows']} rows, {forest['threads']} threads; roof "
          f"{forest['roof_gb_per_s']:.1f} GB/s, {forest['roof_f32_gop_per_s']:.0f} f32 Gop/s")
    for name in ("branches", "strangers"):
        row = forest[name]
        print(f"  {name:10} {row['step_ms']:8.2f} ms  {row['kv_bytes_read'] / 1e6:7.1f} MB of KV read  floor {row['floor_ms']:.2f} ms"
              f"  {row['of_floor']:.2f}x")
    print(f"prefix tree of {tree['blocks']} blocks, million a second: {tree['inserts_per_s'] / 1e6:.2f} inserts, "
          f"{tree['hits_per_s'] / 1e6:.2f} look-ups that find, {tree['misses_per_s'] / 1e6:.2f} that do not, "
          f"{tree['displacing_inserts_per_s'] / 1e6:.2f} inserts that displace")
    for row in doc["fork"]["prefixes"]:
        print(f"fork of {row['branches']} branches on {row['prefix']} tokens: {row['fork_us']:.1f} us, {row['blocks_prefix']} blocks "
              f"of the prefix, {row['blocks_own']} of the branches")
    print("\n| | espalier | llama-server |\n| --- | ---: | ---: |")
    other = doc["llama_server"] or {}
    for part, key, name in (("document", "first_ms", "first question on a document, first token, ms"),
                            ("document", "later_ms", "2nd to 8th one after another, ms"),
                            ("document", "later_over_first", "of the first"),
                            ("document", "together_last_ms", "eight together, the last, ms"),
                            ("document", "together_last_behind_first", "behind the first of them, of its time"),
                            ("answers", "one_ms", f"one answer of {ANSWER_TOKENS} tokens, ms"),
                            ("answers", "eight_ms", "n = 8 answers, ms"), ("answers", "eight_over_one", "of one answer"),
                            ("answers", "tokens_per_s", "n = 8, tokens/s")):
        print(f"| {name} | {doc['espalier'][part][key]} | {other[part][key] if other else 'skipped'} |")
    print()
    for row in doc["checks"]:
        print(f"{'PASS' if row['pass'] else 'FAIL'}  {row['check']}: {row['value']:.3f} (at most {row['bound']})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--llama-server", help="without it the comparison is skipped")
    parser.add_argument("--llama-model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=2000, help="of the document (default 2000)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    doc = {"command": "branches", "threads": args.threads, "forest": bench(args, "--forest"), "tree": bench(args, "--tree"),
           "fork": bench(args, "--fork", "--repeats", "51")}
    with prefix_cache.serving(args.espalier, args.model, "--threads", str(args.threads)) as url:
        doc["espalier"] = measure_server(url, args)
    doc["llama_server"] = None
    if args.llama_server:
        with serving_llama(args) as url:
            doc["llama_server"] = measure_server(url, args)
    doc["checks"] = checks_of(doc)
    if args.json:
        print(json.dumps(doc, indent=2))
    else:
        print_report(doc)
    sys.exit(0 if all(row["pass"] for row in doc["checks"]) else 1)


main()
