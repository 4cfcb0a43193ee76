#!/usr/bin/env python3
"""Perplexity and bytes of the default model in our formats and in llama.cpp's; started by quality.sh.

Every row scores the same windows with the same rule (llama-perplexity's). Ours runs in our engine as it serves: weights
quantized, activations rounded to 8 bits, the KV cache in bf16 (in f32 beside native weights). llama.cpp's files are scored by
llama-perplexity. Bytes of matrices, ours and llama.cpp's: embedding and products, no norms, as a file holds them.
"""
import argparse
import itertools
import json
import os
import resource
import shutil
import sys
import time

import measures

RECIPES = (  # name, options of `espalier quantize`, is it calibrated
    ("nearest", ("--method", "rtn", "--clip", "max"), False),
    ("octav", ("--method", "rtn", "--clip", "octav"), False),
    ("search", ("--method", "rtn", "--clip", "search"), False),
    ("search, calibrated", ("--method", "rtn", "--clip", "search"), True),
    ("awq", ("--method", "awq"), True),
    ("gptq", ("--method", "gptq"), True),
    ("awq+gptq", ("--method", "awq+gptq"), True),
)
VECTORS, SCALE_BITS = (16, 32, 64), (4, 6, 8, 10)
SEARCH_SECONDS, BEST_SECONDS = 20, 300
SOURCE = ("The default model's source is itself a 4-bit file (llama.cpp's Q4_1): 'native' computes with its exact values, every other row is a\n"
          "requantization of them, harsher than one from bf16.")


def in_file(args, file):
    """Bytes of the matrices in a file, and bits a weight."""
    kinds = [kind for kind in measures.run_json([args.espalier, "inspect", "--model", file])["tensors"] if kind["type"] != "F32"]
    count = sum(kind["bytes"] for kind in kinds)
    return {"matrix_bytes": count, "bits_per_weight": 8 * count / sum(kind["weights"] for kind in kinds), "file_bytes": os.path.getsize(file)}


# --- ours

def perplexity(args, model, weights):
    return measures.espalier_perplexity(args.espalier, model, weights, args.text, args.threads, args.windows)


def row_of_ours(args, name, model, weights):
    doc = perplexity(args, model, weights)
    return {"engine": "espalier", "row": name, "perplexity": doc["perplexity"], "stderr": doc["stderr"], "matrix_bytes": doc["matrix_bytes"],
            "bits_per_weight": doc["bits_per_weight"], "file_bytes": None}


def recipe_row(args, recipe):
    name, options, calibrated = recipe
    out = os.path.join(args.work, "recipe")
    command = [args.espalier, "quantize", "--model", args.model, "--out", out, "--format", "vsq4z", "--threads", str(args.threads), *options]
    begin, begin_cpu = time.monotonic(), cpu_seconds()
    measures.run(command + (["--calibrate", args.calibration] if calibrated else []))
    cost = {"quantize_s": time.monotonic() - begin, "quantize_cpu_s": cpu_seconds() - begin_cpu}
    row = row_of_ours(args, f"vsq4z {name}", out, "vsq4z") | cost
    row["file_bytes"] = os.path.getsize(os.path.join(out, "model.safetensors"))
    shutil.rmtree(out)
    return row


def cpu_seconds():
    """Of the programs that have ended: what other work on the machine does not stretch."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def our_rows(args):
    measures.note("native, w8")
    yield row_of_ours(args, "native", args.model, "native") | in_file(args, args.model)
    yield row_of_ours(args, "w8", args.model, "w8")
    for recipe in RECIPES:
        measures.note(f"vsq4z {recipe[0]}")
        yield recipe_row(args, recipe)


# --- llama.cpp's

def llama_row(args, name, file):
    measures.note(f"llama.cpp {name}")
    score = measures.llama_perplexity(args.llama, file, args.text, args.windows)
    return {"engine": "llama.cpp", "row": name, "perplexity": score} | in_file(args, file)


def over_native(rows):
    native = rows[0]["perplexity"]
    for row in rows:
        row["over_native"] = 100 * (row["perplexity"] / native - 1)
    return rows


# --- the bounds

def at_most(name, value, bound):
    return {"check": name, "value": value, "bound": bound, "pass": value <= bound}


def checks_of(rows):
    named = {(row["engine"], row["row"]): row for row in rows}
    ours = [row for row in rows if row["row"].startswith("vsq4z")]
    best = min(ours, key=lambda row: row["perplexity"])
    searched, slow = named["espalier", "vsq4z search, calibrated"], named["espalier", "vsq4z awq+gptq"]
    found = [at_most("w8, percent over native", named["espalier", "w8"]["over_native"], 0.5),
             at_most("vsq4z search, calibrated, percent over native", searched["over_native"], 7.5),
             at_most(f"the best ({best['row']}), percent over native", best["over_native"], 6),
             at_most("quantizing: search, seconds", named["espalier", "vsq4z search"]["quantize_s"], SEARCH_SECONDS),
             at_most("quantizing: awq+gptq, seconds", slow["quantize_s"], BEST_SECONDS)]
    other = named.get(("llama.cpp", "Q4_0, importance matrix"))
    if other:
        found.append(at_most(f"the best ({best['row']}), of the perplexity of Q4_0 with importance matrix", best["perplexity"], other["perplexity"]))
        found.append(at_most("... of its bytes of matrices, MB", best["matrix_bytes"] / 1e6, other["matrix_bytes"] / 1e6))
    return found


# --- the axes of the paper

def axes(args):
    """VSQ4 as VS-Quant has it, symmetric, to nearest: N + M/V bits for each (V, M)."""
    native, rows = perplexity(args, args.model, "native")["perplexity"], []
    for vector in VECTORS:
        for bits in SCALE_BITS:
            measures.note(f"vsq4:{vector},{bits}")
            doc = perplexity(args, args.model, f"vsq4:{vector},{bits}")
            rows.append({"vector": vector, "scale_bits": bits, "bits_per_weight": 4 + bits / vector, "perplexity": doc["perplexity"],
                         "over_native": 100 * (doc["perplexity"] / native - 1)})
    return {"command": "quality", "windows": args.windows, "native": native, "axes": rows}


def print_axes(doc):
    print(f"VSQ4 of the VS-Quant paper on the default model, {doc['windows']} windows of {measures.CONTEXT}; native {doc['native']:.3f}.\n{SOURCE}\n")
    cells = {(row["vector"], row["scale_bits"]): row for row in doc["axes"]}
    measures.print_table(["vector length"] + [f"{bits}-bit scales" for bits in SCALE_BITS],
                         [[str(vector)] + [f"{row['perplexity']:.2f} (+{row['over_native']:.1f} %, {row['bits_per_weight']:.3f} bits)"
                                           for row in (cells[vector, bits] for bits in SCALE_BITS)] for vector in VECTORS])


# --- report

def print_report(doc):
    print(f"The first {doc['windows']} windows of {measures.CONTEXT} tokens.\n{SOURCE}\n")
    rows = []
    for row in doc["rows"]:
        file, seconds = row["file_bytes"], row.get("quantize_s")
        rows.append([f"{row['engine']} {row['row']}", f"{row['matrix_bytes'] / 1e6:.2f}", f"{file / 1e6:.2f}" if file else "-",
                     f"{row['bits_per_weight']:.3f}", f"{row['perplexity']:.3f}", f"{row['over_native']:+.2f} %",
                     "-" if seconds is None else f"{seconds:.0f} ({row['quantize_cpu_s']:.0f})"])
    measures.print_table(["", "matrices, MB", "file, MB", "bits a weight", "perplexity", "over native", "s to make (of CPU)"], rows)
    print()
    for row in doc["checks"]:
        print(f"{measures.verdict(row['pass'])}  {row['check']}: {row['value']:.3f} (at most {row['bound']:.3f})")
    if not doc["checks"]:
        print(f"no checks: they are of {measures.WINDOWS} windows")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--calibration", required=True, help="the text that recipes are calibrated on")
    parser.add_argument("--work", required=True, help="a directory for what is quantized")
    parser.add_argument("--llama", help="directory of llama.cpp's programs")
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="llama.cpp's files")
    parser.add_argument("--windows", type=int, default=measures.WINDOWS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--axes", action="store_true", help="the paper's axes instead")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def main():
    args = arguments()
    if args.axes:
        doc = axes(args)
    else:
        rows = []
        for row in itertools.chain(our_rows(args), (llama_row(args, *word.split("=", 1)) for word in args.file)):
            measures.note(f"  perplexity {row['perplexity']:.3f}")
            rows.append(row)
        over_native(rows)
        doc = {"command": "quality", "windows": args.windows, "source_is_4_bit": True, "rows": rows,
               "checks": checks_of(rows) if args.windows == measures.WINDOWS else []}
    if args.json:
        print(json.dumps(doc, indent=1))
    else:
        (print_axes if args.axes else print_report)(doc)
    sys.exit(1 if any(not row["pass"] for row in doc.get("checks", ())) else 0)


main()
