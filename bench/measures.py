"""What the comparisons with llama.cpp share: running programs, perplexities of both, tables and verdicts."""
import json
import os
import re
import subprocess
import sys

import pages

CONTEXT, WINDOWS = 512, 24


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr


def run_json(command):
    return json.loads(run(command + ["--json"])[0])


def read_document(stream):
    """The JSON document that a program prints while it goes on running; None: the stream ends before it does."""
    text = ""
    for line in stream:
        text += line
        try:
            return json.loads(text)
        except ValueError:
            continue
    return None


def espalier_perplexity(espalier, model, weights, text, threads, windows=WINDOWS):
    """The document of `espalier perplexity`: perplexity, matrix_bytes, bits_per_weight and more."""
    return run_json([espalier, "perplexity", "--model", model, "--weights", weights, "--text", text, "--context", str(CONTEXT),
                     "--windows", str(windows), "--threads", str(threads)])


def llama_perplexity(directory, model, text, windows=WINDOWS):
    """On one thread: llama.cpp's threads spin at barriers, and beside other work two of them are many times slower than one."""
    out, err = run([os.path.join(directory, "llama-perplexity"), "-m", model, "-f", text, "-c", str(CONTEXT), "--chunks", str(windows),
                    "-t", "1"])
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", out + err)
    if not found:
        sys.exit(f"llama-perplexity of {model} printed no final estimate")
    return float(found.group(1))


def note(words):
    print(words, file=sys.stderr, flush=True)


def print_table(head, rows):
    print(pages.table(head, rows))


def verdict(passed):
    return "PASS" if passed else "FAIL"
