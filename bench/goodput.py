#!/usr/bin/env python3
"""Goodput of every policy on the workloads W1..W10, simulated; started by goodput.sh.

A cell is one `espalier simulate --goodput`: all policies of one workload, sharing mode, SLO kind and chunk rule, on the
same paired seeds. A geometric mean of ratios goes over the workloads; its interval is the jackknife's over seeds, each left out
of both policies and of every workload at once. The best cap, or the best rival, is that of the cell.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import goodput_tables as tables
import pages
import revision

WORKLOADS = [f"W{i}" for i in range(1, 11)]
PROFILES = {"shared": "study-h200", "noshare": "study-h200-noshare"}
STUDY_BOUND = 0.10  # of a cell of the study; larger differences are to be explained


def parse():
    parser = argparse.ArgumentParser(prog="goodput.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="three workloads, two seeds, one chunk")
    parser.add_argument("--study", action="store_true", help="the cells of the controller study, beside its figures")
    parser.add_argument("--workloads", help="of W1..W10, separated by commas")
    parser.add_argument("--policy", help="default off,eager,cap:2,cap:4,cap:8,taper,taper-paper")
    parser.add_argument("--kinds", help="SLO kinds: mean, envelope, gaps, stages (default mean,gaps)")
    parser.add_argument("--chunks", help="prefill chunks: a number, best, slo (default best,slo)")
    parser.add_argument("--modes", default="shared,noshare", help="shared, noshare")
    parser.add_argument("--seeds", type=int)
    pages.add_options(parser)
    args = parser.parse_args()
    quick, study = args.quick, args.study
    args.workloads = split(args.workloads or ("W1,W4,W10" if quick else ",".join(WORKLOADS)), WORKLOADS, "workload", parser)
    args.policy = args.policy or ("off,eager,cap:2,taper" if quick else "off,eager,cap:2,cap:8" if study else
                                  "off,eager,cap:2,cap:4,cap:8,taper,taper-paper")
    args.kinds = split(args.kinds or ("mean" if quick else "mean,gaps"), tables.KIND_NAMES, "SLO kind", parser)
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
    left = (time.monotonic() - begin) / done * (total - done) if done else 0
    if not sys.stderr.isatty():
        print(f"goodput.sh: {label}, {done} of {total} done, {left / 60:.0f} min left", file=sys.stderr, flush=True)
        return
    cells = int(30 * done / total)
    print(f"\r\033[K{label} [{'#' * cells}{'.' * (30 - cells)}] {done}/{total}  {left / 60:.0f} min left", end="" if done < total else "\n", file=sys.stderr)


def run_cells(args):
    places = [(w, m, k, c) for c in args.chunks for k in args.kinds for m in args.modes for w in args.workloads]
    cells, begin = [], time.monotonic()
    for at, (workload, mode, kind, chunk) in enumerate(places):
        progress(at, len(places), begin, f"{workload} {mode} {kind} {chunk}")
        found = simulate(args, workload, mode, kind, chunk)
        cells.append({"workload": workload, "mode": mode, "slo_kind": kind, "chunk": chunk, "command": found["command"],
                      "policies": [{"policy": p["policy"], "prefill_chunk": p["prefill_chunk"], **p["goodput"]} for p in found["policies"]]})
    progress(len(places), len(places), begin, "done")
    return cells


def summary(args, cells):
    """Each policy over each rival, by chunk rule, SLO kind and mode; what issue 8 asks of taper beside it."""
    document, out = {"cells": cells}, []
    for chunk in tables.chunks_of(document):
        for kind, mode in tables.sort_of(document, chunk):
            found = tables.cells_of(document, chunk, kind, mode)
            for policy in tables.policies_of(document):
                row = {"chunk": chunk, "slo_kind": kind, "mode": mode, "policy": policy,
                       "geometric_means": {name: tables.mean_over(found, policy, name) for name in (*tables.RIVALS, "best rival")}}
                if policy == "taper" and chunk == "best" and args.workloads == WORKLOADS and (kind, mode) in tables.TARGETS:
                    row["targets"] = tables.TARGETS[kind, mode]
                out.append(row)
    return out


def add_ratios(cells):
    """Of each cell taper over the best rival."""
    for cell in cells:
        if "taper" in tables.by_policy(cell):
            ratio, rival = tables.over(cell, "taper", "best rival")
            cell["taper_over_best_rival"] = {"rival": rival, "ratio": ratio, "behind": tables.is_behind(cell)}


def run(args):
    commit = revision.commit()  # as it is now, not at the end
    cells = run_cells(args)
    add_ratios(cells)
    document = {"simulated": True, "command": revision.command("goodput.sh"), "commit": commit, "seeds": args.seeds, "cells": cells,
                "summary": summary(args, cells)}
    if args.study:
        document["study"] = study_rows(cells)
    return document


# --- beside the study

def study_rows(cells):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "controller_study.json")) as file:
        study = json.load(file)
    rows = []
    for cell in cells:
        for policy, found in tables.by_policy(cell).items():
            known = study[cell["workload"]].get(f"{cell['slo_kind']} {cell['mode']}", {}).get(policy)
            if known:
                rows.append({"workload": cell["workload"], "mode": cell["mode"], "slo_kind": cell["slo_kind"], "policy": policy, "study": known,
                             "ours": found["max_rate"], "ratio": found["max_rate"] / known})
    return rows


def print_study(rows):
    print(f"\nBeside the study: ours / study; * where it is more than {STUDY_BOUND:.0%} off")
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    for kind, mode in dict.fromkeys((row["slo_kind"], row["mode"]) for row in rows):
        print(f"\n  {tables.KIND_NAMES[kind]} {mode}" + "".join(f"{p:>20}" for p in policies))
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
    document = pages.document(args, run)
    if args.markdown:
        pages.write_section(args.markdown, "goodput.sh", tables.page(document))
    if args.json:
        print(json.dumps(document, indent=1))
        return
    print("Simulated goodput: the highest rate (requests/s) at which 95 % of requests meet TTFT 2 s and TPOT 50 ms, over "
          + ("one seed" if document["seeds"] == 1 else f"{document['seeds']} paired seeds, with 95 % intervals"))
    tables.show(document)
    if "study" in document:
        print_study(document["study"])


if __name__ == "__main__":
    main()
