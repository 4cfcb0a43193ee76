#!/usr/bin/env python3
"""Runs espalier and llama.cpp in turns and prints their speeds as ratios; started by compare_llamacpp.sh.

Decode: R sequences, 128 tokens of context each, 32 steps; llama-batched-bench with flash attention off and on, the better
counts. Prefill: one prompt of 512 tokens; llama-bench. Both with the same threads. Each repeat runs one after the other
and the best of each counts. llama.cpp's step has no sampling in it, ours has. Perplexity: 24 windows of 512 tokens.
"""
import argparse, json, os, platform, re, subprocess, sys

DEPTH, STEPS, PROMPT = 128, 32, 512


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr


def ours(args, rows):
    out, _ = run([args.espalier, "bench", "--model", args.model, "--weights", "w8", "--threads", str(args.threads), "--rows",
                  ",".join(map(str, rows)), "--depth", str(DEPTH), "--steps", str(STEPS), "--repeats", "2", "--prompt", str(PROMPT), "--json"])
    doc = json.loads(out)
    speeds = {f"decode {row['rows']}": row["tokens_per_s"] for row in doc["decode"]}
    speeds[f"prefill {PROMPT}"] = doc["prefill"][0]["tokens_per_s"]
    return speeds


def theirs(args, rows):
    speeds = {}
    for flash in ("off", "on"):
        out, err = run([os.path.join(args.llama, "llama-batched-bench"), "-m", args.llama_model, "-t", str(args.threads), "-c", "8192", "-b", "2048",
                        "-ub", "512", "-npp", str(DEPTH), "-ntg", str(STEPS), "-npl", ",".join(map(str, rows)), "-fa", flash])
        for line in (out + err).splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) >= 8 and cells[0] == str(DEPTH) and cells[1] == str(STEPS):
                name = f"decode {cells[2]}"
                speeds[name] = max(speeds.get(name, 0), float(cells[7]))
        out, _ = run([os.path.join(args.llama, "llama-bench"), "-m", args.llama_model, "-t", str(args.threads), "-p", str(PROMPT), "-n", "0", "-r", "2",
                      "-fa", "1" if flash == "on" else "0", "-o", "json"])
        name = f"prefill {PROMPT}"
        speeds[name] = max(speeds.get(name, 0), json.loads(out)[0]["avg_ts"])
    return speeds


def best(into, speeds):
    for name, value in speeds.items():
        into[name] = max(into.get(name, 0), value)


def perplexities(args):
    out, _ = run([args.espalier, "perplexity", "--model", args.model, "--weights", "w8", "--text", args.text, "--context", "512", "--windows", "24", "--json"])
    mine = json.loads(out)["perplexity"]
    out, err = run([os.path.join(args.llama, "llama-perplexity"), "-m", args.llama_model, "-f", args.text, "-c", "512", "--chunks", "24", "-t", str(args.threads)])
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", out + err)
    if not found:
        sys.exit("llama-perplexity printed no final estimate")
    return mine, float(found.group(1))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True)
    parser.add_argument("--llama", required=True, help="directory of llama.cpp's programs")
    parser.add_argument("--model", required=True)
    parser.add_argument("--llama-model", required=True)
    parser.add_argument("--rows", default="1,4,8,16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--text", default=os.path.join(here, "../../shared/data/text/wikitext2_valid.txt"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [int(word) for word in args.rows.split(",")]
    mine, other = {}, {}
    for repeat in range(args.repeats):
        print(f"run {repeat + 1} of {args.repeats}", file=sys.stderr)
        best(mine, ours(args, rows))
        best(other, theirs(args, rows))
    quality = perplexities(args) if os.path.exists(args.text) else None
    if not quality:
        print(f"perplexity skipped: {args.text} is not there (--text FILE)", file=sys.stderr)
    missing = [name for name in mine if name not in other]
    if missing:
        sys.exit(f"llama.cpp printed no figure for {', '.join(missing)}")
    if args.json:
        print(json.dumps({"command": "compare_llamacpp", "machine": platform.processor() or platform.machine(), "threads": args.threads,
                          "espalier": mine, "llama.cpp": other, "ratio": {name: mine[name] / other[name] for name in mine},
                          "perplexity": {"espalier": quality[0], "llama.cpp": quality[1]} if quality else None}))
        return
    tail = [f"{value:.3f}" for value in quality] if quality else ["-", "-"]
    print(f"\n| {args.threads} threads | espalier w8, tokens/s | perplexity | llama.cpp Q8_0, tokens/s | perplexity | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in mine:
        print(f"| {name} | {mine[name]:.1f} | {tail[0]} | {other[name]:.1f} | {tail[1]} | {mine[name] / other[name]:.2f} |")


main()
