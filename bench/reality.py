#!/usr/bin/env python3
"""The simulator beside the real server, on one recorded profile and one trace; started by reality.sh.

Bounds: median TTFT and TPOT within 10 %, their p99 within 25 %, attainment within 5 points. A machine drifts, so each repeat
records a profile of its own just before the server runs; what is judged is the median over repeats of simulated / real.
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import measures

BOUNDS = (("ttft_ms", "p50", 0.10), ("tpot_ms", "p50", 0.10), ("ttft_ms", "p99", 0.25), ("tpot_ms", "p99", 0.25))
POINTS = 0.05  # of attainment
CHUNK = 512


def parse():
    parser = argparse.ArgumentParser(prog="reality.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=2.0, help="requests/s (default 2)")
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--policies", default="off,eager")
    parser.add_argument("--seconds", type=float, default=20, help="how long a profile is recorded")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slo-ttft", default="250ms")
    parser.add_argument("--slo-tpot", default="12ms")
    parser.add_argument("--work", help="keep the profile, the trace and the records in this folder")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """The real server with a policy; `with` stops it."""

    def __init__(self, args, policy):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = open(os.path.join(args.work, f"server-{policy.replace(':', '')}.log"), "w")
        self.process = subprocess.Popen([args.espalier, "serve", "--model", args.model, "--port", self.url.rsplit(":", 1)[1],
                                         "--policy", policy, "--prefill-chunk", str(CHUNK)], stdout=self.log, stderr=self.log)

    def __enter__(self):
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/health", timeout=1)
                return self
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"the server did not start: {self.log.name}")
                time.sleep(0.1)
        sys.exit(f"the server did not answer within 60 s: {self.log.name}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def figures(doc):
    """Those that are compared."""
    return {f"{name} {part}": doc[name][part] for name, part, _ in BOUNDS} | {"slo_attainment": doc["slo_attainment"]}


def replay(args, policy, trace, repeat):
    with Server(args, policy) as server:
        common = [args.espalier, "replay", "--trace", trace, "--url", server.url, "--prompt-ids"]
        measures.run_json(common + ["--requests", "4", "--concurrency", "2", "--seed", "99"])  # first touches
        record = os.path.join(args.work, f"{policy.replace(':', '')}-{repeat}.jsonl")
        doc = measures.run_json(common + ["--seed", str(repeat), "--record", record])
    if doc["completed"] != args.requests:
        sys.exit(f"{doc['completed']} of {args.requests} requests were completed: {record}")
    return figures(doc)


def simulate(args, policy, trace, repeat):
    profile = os.path.join(args.work, f"profile-{policy.replace(':', '')}-{repeat}.json")
    measures.run([args.espalier, "profile", "--model", args.model, "--record", profile, "--seconds", str(args.seconds), "--prefill-chunk", str(CHUNK),
                  "--seed", str(repeat + 1)])
    doc = measures.run_json([args.espalier, "simulate", "--trace", trace, "--profile", profile, "--policy", policy, "--warmup", "0ms", "--prefill-chunk",
                             str(CHUNK), "--seed", str(repeat + 1)])
    return figures(doc["policies"][0])


def compare(pairs):
    """pairs: of each repeat the simulated and the real figures."""
    rows = []
    for name, part, bound in BOUNDS + (("slo_attainment", "", POINTS),):
        key = f"{name} {part}".strip()
        offs = [(s[key] - r[key]) / (1 if name == "slo_attainment" else r[key]) for s, r in pairs]
        rows.append({"figure": key, "real": statistics.median(r[key] for _, r in pairs), "simulated": statistics.median(s[key] for s, _ in pairs),
                     "off": statistics.median(offs), "by_repeat": offs, "bound": bound, "pass": abs(statistics.median(offs)) <= bound})
    return rows


def measure(args):
    trace = os.path.join(args.work, "trace.jsonl")
    measures.run([args.espalier, "trace", "generate", "--out", trace, "--rate", str(args.rate), "--requests", str(args.requests), "--seed", "7",
                  "--lengths", "lognormal:250:0.7:60:0.5", "--branching", "0.4", "--width", "2:4", "--stages", "1:2", "--branch-tokens", "40:0.5:10:100",
                  "--lead", "10:30", "--tail", "10:40", "--slo-ttft", args.slo_ttft, "--slo-tpot", args.slo_tpot])
    pairs = {policy: [] for policy in args.policies.split(",")}
    for repeat in range(args.repeats):
        for policy, found in pairs.items():
            measures.note(f"{policy}, repeat {repeat + 1} of {args.repeats}: {args.seconds + args.requests / args.rate:.0f} s")
            simulated = simulate(args, policy, trace, repeat)
            found.append((simulated, replay(args, policy, trace, repeat)))
    return {"rate": args.rate, "requests": args.requests, "policies": {policy: compare(found) for policy, found in pairs.items()}}


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as work:
        args.work = args.work or work
        os.makedirs(args.work, exist_ok=True)
        out = measure(args)
    if args.json:
        print(json.dumps(out, indent=1))
    else:
        rows = [[f"{policy}: {row['figure']}", f"{row['real']:.3f}", f"{row['simulated']:.3f}", f"{row['off']:+.3f}", " ".join(f"{off:+.2f}" for off in row["by_repeat"]),
                 f"{row['bound']:.2f}", measures.verdict(row["pass"])] for policy, found in out["policies"].items() for row in found]
        measures.print_table(["", "real", "simulated", "off", "by repeat", "bound", ""], rows)
    sys.exit(0 if all(row["pass"] for found in out["policies"].values() for row in found) else 1)


if __name__ == "__main__":
    main()
