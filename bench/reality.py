#!/usr/bin/env python3
"""The simulator beside the real server, on one recorded profile and one trace; started by reality.sh.

Bounds: median TTFT and TPOT within 10 %, their p99 within 25 %, attainment within 5 points. With --repeats the real
figures are medians of so many runs, the simulated ones of as many seeds of the step noise.
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
    parser.add_argument("--seconds", type=float, default=60, help="how long the profile is recorded")
    parser.add_argument("--repeats", type=int, default=1)
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


def middle(documents):
    """The figures that are compared, each its median over the documents."""
    found = {f"{name} {part}": statistics.median(doc[name][part] for doc in documents) for name, part, _ in BOUNDS}
    found["slo_attainment"] = statistics.median(doc["slo_attainment"] for doc in documents)
    return found


def replay(args, policy, trace):
    documents = []
    with Server(args, policy) as server:
        warm = [args.espalier, "replay", "--trace", trace, "--url", server.url, "--requests", "4", "--concurrency", "2", "--prompt-ids", "--seed", "99"]
        measures.run_json(warm)
        for repeat in range(args.repeats):
            record = os.path.join(args.work, f"{policy.replace(':', '')}-{repeat}.jsonl")
            documents.append(measures.run_json(
                [args.espalier, "replay", "--trace", trace, "--url", server.url, "--prompt-ids", "--seed", str(repeat), "--record", record]))
            if documents[-1]["completed"] != args.requests:
                sys.exit(f"{documents[-1]['completed']} of {args.requests} requests were completed: {record}")
    return middle(documents)


def simulate(args, policy, trace, profile):
    documents = [measures.run_json([args.espalier, "simulate", "--trace", trace, "--profile", profile, "--policy", policy, "--warmup", "0ms",
                                    "--prefill-chunk", str(CHUNK), "--seed", str(repeat + 1)])["policies"][0] for repeat in range(args.repeats)]
    return middle(documents)


def compare(real, simulated):
    rows = []
    for name, part, bound in BOUNDS:
        key = f"{name} {part}"
        off = simulated[key] / real[key] - 1
        rows.append({"figure": key, "real": real[key], "simulated": simulated[key], "off": off, "bound": bound, "pass": abs(off) <= bound})
    off = simulated["slo_attainment"] - real["slo_attainment"]
    rows.append({"figure": "slo_attainment", "real": real["slo_attainment"], "simulated": simulated["slo_attainment"], "off": off, "bound": POINTS,
                 "pass": abs(off) <= POINTS})
    return rows


def measure(args):
    trace, profile = os.path.join(args.work, "trace.jsonl"), os.path.join(args.work, "profile.json")
    measures.note(f"recording a profile for {args.seconds:.0f} s")
    measures.run([args.espalier, "profile", "--model", args.model, "--record", profile, "--seconds", str(args.seconds), "--prefill-chunk", str(CHUNK)])
    measures.run([args.espalier, "trace", "generate", "--out", trace, "--rate", str(args.rate), "--requests", str(args.requests), "--seed", "7",
                  "--lengths", "lognormal:250:0.7:60:0.5", "--branching", "0.4", "--width", "2:4", "--stages", "1:2", "--branch-tokens", "40:0.5:10:100",
                  "--lead", "10:30", "--tail", "10:40", "--slo-ttft", args.slo_ttft, "--slo-tpot", args.slo_tpot])
    out = {"rate": args.rate, "requests": args.requests, "policies": {}}
    for policy in args.policies.split(","):
        measures.note(f"{policy}: {args.repeats} x {args.requests / args.rate:.0f} s against the server")
        real = replay(args, policy, trace)
        out["policies"][policy] = compare(real, simulate(args, policy, trace, profile))
    return out


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as work:
        args.work = args.work or work
        os.makedirs(args.work, exist_ok=True)
        out = measure(args)
    if args.json:
        print(json.dumps(out, indent=1))
    else:
        rows = [[f"{policy}: {row['figure']}", f"{row['real']:.3f}", f"{row['simulated']:.3f}", f"{row['off']:+.3f}", f"{row['bound']:.2f}",
                 measures.verdict(row["pass"])] for policy, found in out["policies"].items() for row in found]
        measures.print_table(["", "real", "simulated", "off", "bound", ""], rows)
    sys.exit(0 if all(row["pass"] for found in out["policies"].values() for row in found) else 1)


if __name__ == "__main__":
    main()
