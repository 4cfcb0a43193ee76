#!/usr/bin/env python3
"""Espalier and llama.cpp in turns on one machine: tokens a second as ratios, each row with its perplexity and its bar; started by
compare_llamacpp.sh.

Decode: R sequences of 128 (or 2,000) tokens of context each, 32 steps; llama-batched-bench. Prefill: one prompt of 512 tokens;
llama-bench. llama.cpp runs as each of its files, with flash attention off and on, on one thread and on all; the best of these counts,
row by row. The first repeat runs all of them, the others those within 10 % of a row's best. Espalier runs once before each file of
llama.cpp, as often as that file's settings do. Of each the best repeat counts. Espalier's step has the sampling of its tokens in it,
llama.cpp's has not.

The bars are those of the issue. A row whose bar no program on this machine could meet (the floor of the step, from the memory bandwidth and
the product rate that `espalier bench` measured, is longer than llama.cpp's time over the bar) passes within 1.6 times that floor.
"""
import argparse
import collections
import json
import os
import platform
import sys

import measures

DEPTH, DEEP, STEPS, PROMPT = 128, 2000, 32, 512
PREFILL, DEEP_ROWS = f"prefill {PROMPT}", 8
DEEPLY = f"decode {DEEP_ROWS} at {DEEP}"
OF_FLOOR = 1.6
CONTESTED = 0.9
BARS = {"vsq4z": {"decode 1": 2.5, "decode 4": 5, "decode 8": 5, "decode 16": 4, "decode 32": 3.5, PREFILL: 2.2, DEEPLY: 3},
        "w8": {"decode 1": 1.5, "decode 8": 3}}
FILES = {"vsq4z": ("Q4_0", "Q4_K_M", "Q4_1"), "w8": ("Q8_0",)}  # of llama.cpp, beside each of our formats

Setting = collections.namedtuple("Setting", "file flash threads")


def names_of(args):
    return [f"decode {rows}" for rows in args.rows] + [PREFILL] + ([] if args.quick else [DEEPLY])


# --- espalier

def bench(args, weights, *options):
    return measures.run_json([args.espalier, "bench", "--model", args.ours[weights], "--weights", weights, "--threads", str(args.threads),
                              "--steps", str(STEPS), "--repeats", "2", *options])


def ours(args, weights):
    """Of each row of the table: tokens a second and the floor's milliseconds, tokens of a step."""
    doc = bench(args, weights, "--rows", ",".join(map(str, args.rows)), "--depth", str(DEPTH), "--prompt", str(PROMPT))
    found = {f"decode {row['rows']}": (row["tokens_per_s"], row["floor_ms"], row["rows"]) for row in doc["decode"]}
    row = doc["prefill"][0]
    found[PREFILL] = (row["tokens_per_s"], row["floor_ms"], PROMPT)
    if not args.quick:
        row = bench(args, weights, "--rows", str(DEEP_ROWS), "--depth", str(DEEP), "--prompt", "1")["decode"][0]
        found[DEEPLY] = (row["tokens_per_s"], row["floor_ms"], DEEP_ROWS)
    return found


def keep_ours(best, found):
    """The fastest of all repeats beside the lowest floor of all repeats."""
    for name, (speed, floor, tokens) in found.items():
        old_speed, old_floor, _ = best.get(name, (0, floor, tokens))
        best[name] = (max(speed, old_speed), min(floor, old_floor), tokens)


# --- llama.cpp

def batched(args, setting, depth, rows):
    """Every sequence holds its own copy of the prompt's KV; -pps only computes that prompt once."""
    context = max(rows) * ((depth + STEPS + 255) // 256 * 256)
    out, err = measures.run([os.path.join(args.llama, "llama-batched-bench"), "-m", args.files[setting.file], "-t", str(setting.threads), "-c",
                             str(context), "-b", "2048", "-ub", "512", "-npp", str(depth), "-ntg", str(STEPS), "-npl",
                             ",".join(map(str, rows)), "-fa", setting.flash, "-pps", "--output-format", "jsonl"])
    lines = [json.loads(line) for line in (out + err).splitlines() if line.startswith('{"n_kv_max"')]
    return {line["pl"]: line["speed_tg"] for line in lines}


def prefill(args, setting):
    out, _ = measures.run([os.path.join(args.llama, "llama-bench"), "-m", args.files[setting.file], "-t", str(setting.threads), "-p", str(PROMPT),
                           "-n", "0", "-r", "2", "-fa", "1" if setting.flash == "on" else "0", "-o", "json"])
    return max(json.loads(out)[0]["samples_ts"])


def theirs(args, setting, names):
    found = {}
    rows = [row for row in args.rows if f"decode {row}" in names]
    if rows:
        found = {f"decode {row}": speed for row, speed in batched(args, setting, DEPTH, rows).items()}
    if DEEPLY in names:
        found[DEEPLY] = batched(args, setting, DEEP, [DEEP_ROWS]).get(DEEP_ROWS)
    if PREFILL in names:
        found[PREFILL] = prefill(args, setting)
    missing = [name for name in names if not found.get(name)]
    if missing:
        sys.exit(f"llama.cpp as {setting} printed no figure for {', '.join(missing)}")
    return found


def settings_of(args, weights):
    threads = [args.threads] if args.quick else sorted({1, args.threads})
    return [Setting(file, flash, count) for file in FILES[weights] for count in threads for flash in ("off", "on")]


def contested(speeds, setting, names):
    """The rows in which this setting may still become the best one."""
    return [name for name in names if speeds[setting][name] >= CONTESTED * max(found[name] for found in speeds.values())]


# --- the run

def repeat_once(args, weights, mine, speeds, first):
    before = None
    names = names_of(args)
    for setting in settings_of(args, weights):
        if setting.file != before:
            measures.note(f"  espalier {weights}, then llama.cpp {setting.file}")
            keep_ours(mine, ours(args, weights))
            before = setting.file
        wanted = names if first else contested(speeds, setting, names)
        for name, speed in (theirs(args, setting, wanted) if wanted else {}).items():
            speeds[setting][name] = max(speeds[setting].get(name, 0), speed)


def table_row(args, weights, name, mine, speeds):
    speed, floor, tokens = mine[name]
    setting = max(speeds, key=lambda setting: speeds[setting][name])
    other = speeds[setting][name]
    row = {"row": name, "weights": weights, "tokens_per_s": speed, "perplexity": args.quality.get(weights), "llama_tokens_per_s": other,
           "llama_setting": setting._asdict(), "llama_perplexity": args.quality.get(setting.file), "ratio": speed / other, "floor_ms": floor,
           "of_floor": 1e3 * tokens / speed / floor, "bar": BARS[weights].get(name), "pass": None}
    if row["bar"]:
        row["floor_forbids"] = floor > 1e3 * tokens / (other * row["bar"])
        row["pass"] = row["ratio"] >= row["bar"] or (row["floor_forbids"] and row["of_floor"] <= OF_FLOOR)
    return row


def measure(args):
    mine = {weights: {} for weights in args.formats}
    speeds = {weights: collections.defaultdict(dict) for weights in args.formats}
    for repeat in range(args.repeats):
        measures.note(f"repeat {repeat + 1} of {args.repeats}")
        for weights in args.formats:
            repeat_once(args, weights, mine[weights], speeds[weights], repeat == 0)
    return [table_row(args, weights, name, mine[weights], speeds[weights]) for weights in args.formats for name in names_of(args)], speeds


def perplexities(args):
    if not os.path.exists(args.text):
        measures.note(f"perplexity skipped: {args.text} is not there (--text FILE)")
        return {}
    measures.note("perplexities")
    found = {}
    for weights in args.formats:
        found[weights] = measures.espalier_perplexity(args.espalier, args.ours[weights], weights, args.text, args.threads)["perplexity"]
        for file in FILES[weights]:
            found[file] = measures.llama_perplexity(args.llama, args.files[file], args.text)
    return found


# --- report

def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def verdict_words(row):
    if row["pass"] is None:
        return ""
    if row["pass"] and row["ratio"] < row["bar"]:
        return "PASS (floor)"
    return measures.verdict(row["pass"])


def print_report(args, rows):
    print(f"\n{args.threads} threads, best of {args.repeats} repeats\n")
    head = ["", "espalier, tokens/s", "perplexity", "llama.cpp, tokens/s", "perplexity", "as", "ratio", "bar", "of floor", ""]
    lines = []
    for row in rows:
        setting = row["llama_setting"]
        lines.append([f"{row['weights']} {row['row']}", number(row["tokens_per_s"], 1), number(row["perplexity"], 2),
                      number(row["llama_tokens_per_s"], 1), number(row["llama_perplexity"], 2),
                      f"{setting['file']}, flash {setting['flash']}, threads {setting['threads']}", number(row["ratio"], 2),
                      f"{row['bar']}x" if row["bar"] else "", f"{row['of_floor']:.2f}x", verdict_words(row)])
    measures.print_table(head, lines)
    print(f"\nPASS (floor): the bar lies beyond the floor of this machine, and the row is within {OF_FLOOR}x of the floor.\n"
          "The default model's source is itself a 4-bit file (Q4_1): every perplexity but its own is of a requantization.")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True)
    parser.add_argument("--llama", required=True, help="directory of llama.cpp's programs")
    parser.add_argument("--ours", action="append", default=[], metavar="FORMAT=PATH", help="our model of each format")
    parser.add_argument("--file", action="append", default=[], metavar="TYPE=PATH", help="llama.cpp's files")
    parser.add_argument("--formats", default=",".join(BARS), help="of ours, to be compared (default %(default)s)")
    parser.add_argument("--rows", help="sequences of a decode step (default 1,4,8,16,32; with --quick 1,8)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, help="default 3; with --quick 1")
    parser.add_argument("--quick", action="store_true", help="rows 1 and 8 and prefill, llama.cpp on all threads, one repeat")
    parser.add_argument("--text", required=True, help="for the perplexities")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    args.ours, args.files = (dict(word.split("=", 1) for word in words) for words in (args.ours, args.file))
    args.formats = args.formats.split(",")
    unknown = [name for name in args.formats if name not in args.ours]
    if unknown:
        parser.error(f"--formats {','.join(args.formats)}: allowed are {', '.join(args.ours)}")
    args.rows = [int(word) for word in (args.rows or ("1,8" if args.quick else "1,4,8,16,32")).split(",")]
    args.repeats = args.repeats or (1 if args.quick else 3)
    return args


def main():
    args = arguments()
    args.quality = perplexities(args)
    rows, speeds = measure(args)
    if args.json:
        sweep = [{"weights": weights, **setting._asdict(), "tokens_per_s": found} for weights in args.formats
                 for setting, found in speeds[weights].items()]
        print(json.dumps({"command": "compare_llamacpp", "machine": platform.processor() or platform.machine(), "threads": args.threads,
                          "repeats": args.repeats, "rows": rows, "llama_sweep": sweep}, indent=1))
    else:
        print_report(args, rows)
    sys.exit(1 if any(row["pass"] is False for row in rows) else 0)


main()
