#!/usr/bin/env python3
"""Goodput of every policy on the workloads W1..W10, simulated; started by goodput.sh.

A cell is one `espalier simulate --goodput`: all policies of one workload, sharing mode, SLO kind and chunk rule, on the
same paired seeds. A geometric mean of ratios goes over the workloads; its interval is the jackknife's over seeds, each left out
of both policies and of every workload at once.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import time

WORKLOADS = [f"W{i}" for i in range(1, 11)]
PROFILES = {"shared": "study-h200", "noshare": "study-h200-noshare"}
KIND_NAMES = {"mean": "D1", "envelope": "D2", "gaps": "D4", "stages": "D6"}
STUDY_BOUND = 0.10  # of a cell of the study; larger differences are to be explained
STUDENT = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]  # 97.5 %, by degrees of freedom


def parse():
    parser = argparse.ArgumentParser(prog="goodput.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="three workloads, two seeds, one chunk")
    parser.add_argument("--study", action="store_true", help="the cells of the controller study, beside its figures")
    parser.add_argument("--workloads", help="of W1..W10, separated by commas")
    parser.add_argument("--policy", help="default off,eager,cap:2,cap:4,cap:8")
    parser.add_argument("--kinds", help="SLO kinds: mean, envelope, gaps, stages (default mean,gaps)")
    parser.add_argument("--chunks", help="prefill chunks: a number, best, slo (default best,slo)")
    parser.add_argument("--modes", default="shared,noshare", help="shared, noshare")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", help="also write the JSON here")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    quick, study = args.quick, args.study
    args.workloads = split(args.workloads or ("W1,W4,W10" if quick else ",".join(WORKLOADS)), WORKLOADS, "workload", parser)
    args.policy = args.policy or ("off,eager,cap:2" if quick else "off,eager,cap:2,cap:8" if study else "off,eager,cap:2,cap:4,cap:8")
    args.kinds = split(args.kinds or ("mean" if quick else "mean,gaps"), KIND_NAMES, "SLO kind", parser)
    args.chunks = (args.chunks or ("256" if quick or study else "best,slo")).split(",")
    args.modes = split(args.modes, PROFILES, "sharing mode", parser)
    args.seeds = args.seeds or (2 if quick else 8)
    return args


def split(text, allowed, what, parser):
    for word in text.split(","):
        if word not in allowed:
            parser.error(f"{what} '{word}': {', '.join(allowed)} are allowed")
    return text.split(",")


def simulate(args, workload, mode, kind, chunk):
    command = [args.espalier, "simulate", "--preset", workload, "--profile", PROFILES[mode], "--policy", args.policy, "--slo-kind", kind,
               "--prefill-chunk", chunk, "--seeds", str(args.seeds), "--goodput", "--brief", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr.strip()}\nfailed: {' '.join(command)}")
    return json.loads(done.stdout)


def progress(done, total, begin, label):
    if not sys.stderr.isatty():
        return
    left = (time.monotonic() - begin) / done * (total - done) if done else 0
    cells = int(30 * done / total)
    print(f"\r\033[K{label} [{'#' * cells}{'.' * (30 - cells)}] {done}/{total}  {left / 60:.0f} min left", end="" if done < total else "\n", file=sys.stderr)


def run_cells(args):
    places = [(w, m, k, c) for c in args.chunks for k in args.kinds for m in args.modes for w in args.workloads]
    cells, begin = {}, time.monotonic()
    for at, place in enumerate(places):
        progress(at, len(places), begin, " ".join(place))
        cells[place] = simulate(args, *place)
    progress(len(places), len(places), begin, "done")
    return cells


# --- figures

def rates(doc):
    return {p["policy"]: p["goodput"] for p in doc["policies"]}


def chunk_of(doc, policy):
    return next(p["prefill_chunk"] for p in doc["policies"] if p["policy"] == policy)


def jackknife_reach(without):
    """Half of the 95 % interval from the values with one seed left out at a time; None: one seed has none."""
    count = len(without)
    if count < 2:
        return None
    mean = sum(without) / count
    spread = math.sqrt(sum((v - mean) ** 2 for v in without) * (count - 1) / count)
    return spread * (STUDENT[count - 1] if count <= len(STUDENT) else 2.0)


def best_cap(found):
    caps = [name for name in found if name.startswith("cap:")]
    return max(caps, key=lambda name: found[name]["max_rate"]) if caps else None


def geometric_mean(documents, policy, rival_of):
    """[mean, low, high] of policy's rate over its rival's in each workload; None where a rate is missing, low and high with one seed."""
    logs, without = [], []
    for doc in documents:
        found = rates(doc)
        rival = rival_of(found)
        if rival is None or min(found[policy]["max_rate"], found[rival]["max_rate"]) <= 0:
            return None
        pairs = list(zip(found[policy]["without_seed"], found[rival]["without_seed"]))
        if any(min(pair) <= 0 for pair in pairs):
            return None
        logs.append(math.log(found[policy]["max_rate"] / found[rival]["max_rate"]))
        without.append([math.log(a / b) for a, b in pairs])
    mean = sum(logs) / len(logs)
    reach = jackknife_reach([sum(seed) / len(seed) for seed in zip(*without)])
    return [math.exp(mean)] + ([None, None] if reach is None else [math.exp(mean - reach), math.exp(mean + reach)])


RIVALS = (("off", lambda found: "off" if "off" in found else None), ("eager", lambda found: "eager" if "eager" in found else None), ("best cap", best_cap))


def summary(args, cells):
    out = []
    for chunk in args.chunks:
        for kind in args.kinds:
            for mode in args.modes:
                documents = [cells[w, mode, kind, chunk] for w in args.workloads]
                for policy in args.policy.split(","):
                    ratios = {name: geometric_mean(documents, policy, rival) for name, rival in RIVALS}
                    out.append({"chunk": chunk, "slo_kind": kind, "mode": mode, "policy": policy, "geometric_means": ratios})
    return out


def study_rows(cells):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "controller_study.json")) as file:
        study = json.load(file)
    rows = []
    for (workload, mode, kind, _), doc in cells.items():
        for policy, found in rates(doc).items():
            known = study[workload].get(f"{kind} {mode}", {}).get(policy)
            if known:
                rows.append({"workload": workload, "mode": mode, "slo_kind": kind, "policy": policy, "study": known, "ours": found["max_rate"],
                             "ratio": found["max_rate"] / known})
    return rows


# --- tables

def with_reach(value, high):
    return f"{value:.3f}" + ("" if high is None else f" +-{high - value:.3f}")


def print_cells(args, cells, chunk, kind, mode):
    policies = args.policy.split(",")
    print(f"\n{KIND_NAMES[kind]} ({kind}), {'branches read their prefix once' if mode == 'shared' else 'every row reads its own prefix'}, chunk {chunk}: requests/s")
    print("  " + " " * 6 + "".join(f"{p:>22}" for p in policies))
    for workload in args.workloads:
        doc = cells[workload, mode, kind, chunk]
        words = []
        for policy in policies:
            found = rates(doc)[policy]
            at = f" @{chunk_of(doc, policy)}" if chunk == "best" else ""
            words.append(with_reach(found["max_rate"], (found["max_rate_interval"] or [None, None])[1]) + at)
        print(f"  {workload:<6}" + "".join(f"{w:>22}" for w in words))
    for name, rival in RIVALS:
        words = []
        for policy in policies:
            mean = geometric_mean([cells[w, mode, kind, chunk] for w in args.workloads], policy, rival)
            words.append("-" if mean is None else with_reach(mean[0], mean[2]))
        print(f"  / {name:<9}"[:12].ljust(8) + "".join(f"{w:>22}" for w in words))


def print_study(rows):
    print(f"\nBeside the study: ours / study; * where it is more than {STUDY_BOUND:.0%} off")
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    for kind, mode in dict.fromkeys((row["slo_kind"], row["mode"]) for row in rows):
        print(f"\n  {KIND_NAMES[kind]} {mode}" + "".join(f"{p:>20}" for p in policies))
        for workload in dict.fromkeys(row["workload"] for row in rows):
            line = f"  {workload:<10}"
            for policy in policies:
                for row in rows:
                    if (row["workload"], row["slo_kind"], row["mode"], row["policy"]) == (workload, kind, mode, policy):
                        far = "*" if abs(row["ratio"] - 1) > STUDY_BOUND else " "
                        line += f"{row['ours']:>9.2f}/{row['study']:.2f} {row['ratio']:.2f}{far}"
            print(line)
    near = sum(abs(row["ratio"] - 1) <= STUDY_BOUND for row in rows)
    print(f"\n  {near} of {len(rows)} cells within {STUDY_BOUND:.0%}")


def main():
    args = parse()
    cells = run_cells(args)
    doc = {"simulated": True, "seeds": args.seeds, "cells": [], "summary": summary(args, cells)}
    for (workload, mode, kind, chunk), found in cells.items():
        doc["cells"].append({"workload": workload, "mode": mode, "slo_kind": kind, "chunk": chunk, "command": found["command"],
                             "policies": [{"policy": p["policy"], "prefill_chunk": p["prefill_chunk"], **p["goodput"]} for p in found["policies"]]})
    if args.study:
        doc["study"] = study_rows(cells)
    if args.out:
        with open(args.out, "w") as file:
            json.dump(doc, file, indent=1)
    if args.json:
        print(json.dumps(doc, indent=1))
        return
    print(f"Simulated goodput: the highest rate (requests/s) at which 95 % of requests meet TTFT 2 s and TPOT 50 ms, over "
          + ("one seed" if args.seeds == 1 else f"{args.seeds} paired seeds, with 95 % intervals"))
    for chunk in args.chunks:
        for kind in args.kinds:
            for mode in args.modes:
                print_cells(args, cells, chunk, kind, mode)
    if args.study:
        print_study(doc["study"])


if __name__ == "__main__":
    main()
