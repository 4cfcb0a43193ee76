#!/usr/bin/env python3
"""The paper's pair, each policy at its own best chunk and its own highest rate; started by paper_pair.sh."""
import argparse
import json
import os
import sys
import tempfile

import measures
import pages
import ratios
import revision

KIND_NAMES = {"mean": "D1", "envelope": "D2", "gaps": "D4", "stages": "D6"}
POLICIES = "off,eager,cap:4,taper"
PAIR = {"off": 1.77, "eager": 1.48}
SHARED, OWN = "study-h200", "study-h200-noshare"
# What is told of a setting; requests that branch, width, who reads prefixes; open loop or closed.
SETTINGS = {
    "wide": ("0.5", "12:24", OWN, False), "wide70": ("0.7", "16:24", OWN, False), "wide30": ("0.3", "12:24", OWN, False),
    "wide80": ("0.8", "8:16", OWN, False), "half": ("0.5", "8:16", OWN, False), "third": ("0.3", "8:16", OWN, False),
    "few": ("0.1", "16:24", OWN, False), "half-closed": ("0.5", "8:16", OWN, True), "wide-closed": ("0.5", "12:24", OWN, True),
    "shared-few": ("0.1", "24:32", SHARED, False), "shared-fewer": ("0.05", "24:32", SHARED, False), "shared-15": ("0.15", "16:24", SHARED, False),
    "shared-wide": ("0.5", "12:24", SHARED, False),
}


def parse():
    parser = argparse.ArgumentParser(prog="paper_pair.sh", description=__doc__)
    parser.add_argument("--espalier", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="the setting 'wide' alone, two seeds, D4")
    parser.add_argument("--settings", help="of " + ", ".join(SETTINGS))
    parser.add_argument("--kinds", help="SLO kinds (default gaps,mean)")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", help="threads (default: one a core)")
    pages.add_options(parser)
    args = parser.parse_args()
    args.settings = (args.settings or ("wide" if args.quick else ",".join(SETTINGS))).split(",")
    args.kinds = (args.kinds or ("gaps" if args.quick else "gaps,mean")).split(",")
    args.seeds = args.seeds or (2 if args.quick else 8)
    for words, allowed, what in ((args.settings, SETTINGS, "setting"), (args.kinds, KIND_NAMES, "SLO kind")):
        for word in words:
            if word not in allowed:
                parser.error(f"{what} '{word}': {', '.join(allowed)} are allowed")
    return args


def generation(name, path):
    share, width, _, _ = SETTINGS[name]
    return ["trace", "generate", "--rate", "2", "--duration", "6000s", "--branching", share, "--width", width, "--stages", "1:3",
            "--branch-tokens", "130:0.6:50:400", "--seed", "1", "--out", path]


def simulation(name, path, kind, seeds):
    _, _, profile, closed = SETTINGS[name]
    return ["simulate", "--trace", path, "--duration", "600s", "--profile", profile, "--policy", POLICIES, "--goodput", "--brief", "--slo-kind", kind,
            "--prefill-chunk", "best", "--slo-ttft", "2s", "--slo-tpot", "50ms", "--seeds", str(seeds)] + (["--concurrency", "auto"] if closed else [])


def measure(args, work, name, kind):
    trace = os.path.join(work, f"{name}.jsonl")
    if not os.path.exists(trace):
        measures.run([args.espalier, *generation(name, trace)])
    found = measures.run_json([args.espalier, *simulation(name, trace, kind, args.seeds)] + (["--jobs", args.jobs] if args.jobs else []))
    policies = {}
    for policy in found["policies"]:
        goodput = policy["goodput"]
        policies[policy["policy"]] = {"max_rate": goodput.get("max_rate", goodput.get("best_requests_per_s")), "prefill_chunk": policy["prefill_chunk"],
                                      "concurrency": goodput.get("concurrency"), "without_seed": goodput["without_seed"]}
    over = {rival: ratios.ratio(policies["taper"], policies[rival]) for rival in policies if rival != "taper"}
    return {"setting": name, "slo_kind": kind, "commands": ["espalier " + " ".join(generation(name, f"{name}.jsonl")),
                                                            "espalier " + " ".join(simulation(name, f"{name}.jsonl", kind, args.seeds))],
            "policies": policies, "taper_over": over, "both": holds(over, 0), "surely": holds(over, 1)}


def holds(over, part):
    """Both of the pair, by the ratio (0) or by the low end of its interval (1)."""
    return all(over[rival] and over[rival][part] is not None and over[rival][part] >= PAIR[rival] for rival in PAIR)


def run(args):
    commit = revision.commit()  # as it is now, not at the end
    rows, places = [], [(name, kind) for name in args.settings for kind in args.kinds]
    with tempfile.TemporaryDirectory() as work:
        for at, (name, kind) in enumerate(places):
            measures.note(f"paper_pair.sh: {name} {kind}, {at} of {len(places)} done")
            rows.append(measure(args, work, name, kind))
    return {"simulated": True, "command": revision.command("paper_pair.sh"), "commit": commit, "seeds": args.seeds, "settings": rows}


# --- the table

def told(name):
    share, width, profile, closed = SETTINGS[name]
    low, high = width.split(":")
    return f"{name}: {float(share):.0%} branch {low} to {high} wide{', own' if profile == OWN else ''}{', closed loop' if closed else ''}"


def table(document):
    rows = []
    for row in document["settings"]:
        policies = row["policies"]
        rates = [f"{p['max_rate']:.2f} @{p['prefill_chunk']}" + (f", {p['concurrency']} clients" if p["concurrency"] else "") for p in policies.values()]
        verdict = "both, surely" if row["surely"] else "both" if row["both"] else "no"
        rows.append([f"{told(row['setting'])}, {KIND_NAMES[row['slo_kind']]}", *rates, *(ratios.words(found) for found in row["taper_over"].values()), verdict])
    first = document["settings"][0]
    return pages.table(["requests/s @chunk"] + list(first["policies"]) + [f"taper / {rival}" for rival in first["taper_over"]] + ["1.77 and 1.48"], rows)


def page(document):
    named = document["settings"][0]
    return "\n\n".join([f"`{document['command']}`, {document['seeds']} seeds, {document['commit']}. \"Surely\": by the low ends of the intervals.", table(document),
                        "The first row, typed:", "```text\n" + "\n".join(named["commands"]) + "\n```"])


def main():
    args = parse()
    document = pages.document(args, run)
    if args.markdown:
        pages.write_section(args.markdown, "paper_pair.sh", page(document))
    print(json.dumps(document, indent=1) if args.json else "Simulated: highest rates at >= 95 % attainment, TTFT 2 s, TPOT 50 ms\n\n" + table(document))


if __name__ == "__main__":
    sys.exit(main())
