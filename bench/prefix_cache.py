#!/usr/bin/env python3
"""Eight questions on one 2,000-token document, one after another and together: times to first token.

    python3 bench/prefix_cache.py --model models/SmolLM2-135M-Instruct.Q4_1.gguf

Starts a server of its own on a free port. With --url it measures any OpenAI-style server instead (its /v1/completions;
llama-server needs --parallel 8 and a context for eight). Prints one JSON document.
"""
import argparse
import contextlib
import json
import statistics
import subprocess
import threading
import time
import urllib.request

import measures

WORDS = ("the gardener plants trees along a wall and trains every branch with care so that light reaches all leaves "
         "while wind and frost pass by without harm until autumn comes ").split()
QUESTIONS = 8


def document(salt, tokens):
    """About `tokens` tokens: a common word is one token."""
    return f"{salt} " + " ".join(WORDS[(i * i + i // 7) % len(WORDS)] for i in range(tokens))


def ttft(url, prompt):
    body = json.dumps({"prompt": prompt, "max_tokens": 4, "temperature": 0, "stream": True}).encode()
    request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
    begin = time.monotonic()
    with urllib.request.urlopen(request) as answer:
        first = None
        for line in answer:
            if first is None and line.startswith(b"data: {"):
                first = time.monotonic() - begin
    return first * 1000


def one_after_another(url, text):
    return [ttft(url, f"{text}\nQuestion {i}: what does the gardener do?") for i in range(QUESTIONS)]


def together(url, text):
    times = [0.0] * QUESTIONS

    def ask(i):
        times[i] = ttft(url, f"{text}\nQuestion {i}: what does the gardener do?")
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(QUESTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def measure(url, tokens, repeats):
    serial, parallel = [], []
    for i in range(repeats):
        serial.append(one_after_another(url, document(f"s{i}", tokens)))
        parallel.append(together(url, document(f"p{i}", tokens)))
    first = statistics.median(run[0] for run in serial)
    later = statistics.median(t for run in serial for t in run[1:])
    last = statistics.median(max(run) for run in parallel)
    spread = statistics.median((max(run) - min(run)) / min(run) for run in parallel)
    return {"document_tokens": tokens, "repeats": repeats, "first_ms": round(first, 2), "later_ms": round(later, 2),
            "later_over_first": round(later / first, 4), "together_last_ms": round(last, 2),
            "together_last_over_first": round(last / first, 4), "together_last_behind_first": round(spread, 4)}


@contextlib.contextmanager
def serving(espalier, model, *options):
    """The URL of a server of its own on a free port."""
    server = subprocess.Popen([espalier, "serve", "--model", model, "--port", "0", "--json", *options],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ready = measures.read_document(server.stdout)
        if ready is None:
            raise SystemExit("the server did not start: run the same serve command by hand")
        yield ready["url"]
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--espalier", default="build/espalier")
    parser.add_argument("--url", help="measure this server instead")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.url:
        print(json.dumps(measure(options.url, options.tokens, options.repeats), indent=2))
        return
    with serving(options.espalier, options.model) as url:
        print(json.dumps(measure(url, options.tokens, options.repeats), indent=2))


if __name__ == "__main__":
    main()
