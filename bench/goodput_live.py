#!/usr/bin/env python3
"""Goodput of the policies on the real engine; started by goodput_live.sh.

The step of a single row is measured first: one client, one stream, the median time per token. Then what the engine can do: requests/s
of `eager` in the closed loop. A run is one server with one policy and one replay of the repeat's trace, the same requests for every
policy; policies take turns. Limits travel in the requests. A rival's run is judged by both TPOTs, since no rival looks at them;
taper, which does, has a run for each.
"""
import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import kept
import measures
import pages
import revision

KIND_NAMES = {"mean": "D1", "envelope": "D2", "gaps": "D4", "stages": "D6"}
TTFT = "2s"
TIMES = (3, 6)  # of a single row's step: the TPOTs
LOADS = ("closed", "rate")
NEAR = 0.85  # of what the closed loop of eager completes: the rate
FEWEST = 20  # requests of a run


def parse():
    parser = argparse.ArgumentParser(prog="goodput_live.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one run of each, shorter")
    parser.add_argument("--policies", default="off,eager,cap:2,cap:4,taper")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=float, help="of a run of eager; the others take as long as they take")
    parser.add_argument("--requests", type=int, help="of a run (default: what eager completes in --seconds)")
    parser.add_argument("--clients", type=int, default=8, help="of the closed loop (default 8)")
    parser.add_argument("--kinds", default="mean,gaps", help="SLO kinds in the tables (default mean,gaps); the JSON has all four")
    parser.add_argument("--work", help="keep traces, records and finished runs here")
    pages.add_options(parser)
    args = parser.parse_args()
    args.policies, args.kinds = args.policies.split(","), args.kinds.split(",")
    args.repeats = args.repeats or (1 if args.quick else 5)
    args.seconds = args.seconds or (10 if args.quick else 25)
    for kind in args.kinds:
        if kind not in KIND_NAMES:
            parser.error(f"SLO kind '{kind}': {', '.join(KIND_NAMES)} are allowed")
    return args


class Server:
    """The real server with a policy; `with` stops it."""

    def __init__(self, args, policy):
        self.log = open(os.path.join(args.work, "server.log"), "w+")
        self.process = subprocess.Popen([args.espalier, "serve", "--model", args.model, "--port", "0", "--json", "--policy", policy],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        ready = measures.read_document(self.process.stdout)
        if ready is None:
            self.log.seek(0)
            sys.exit(f"the server did not start with --policy {policy}:\n{self.log.read()[-2000:]}")
        self.url = ready["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- runs

def trace(args, repeat, branching="0.8"):
    """Branch-heavy and short, so that a run has enough requests: the engine computes, the client hardly does."""
    path = os.path.join(args.work, f"trace-{branching}-{repeat}.jsonl")
    if not os.path.exists(path):
        measures.run([args.espalier, "trace", "generate", "--out", path, "--rate", "1", "--requests", "2000", "--seed", str(repeat), "--lengths",
                      "lognormal:120:0.6:60:0.4", "--branching", branching, "--width", "4:10", "--stages", "1:2", "--branch-tokens", "30:0.5:10:80", "--lead",
                      "10:30", "--tail", "10:30"])
    return path


def replay(args, server, words):
    return measures.run_json([args.espalier, "replay", "--url", server.url, "--prompt-ids", *words])


def warm(args, server):
    replay(args, server, ["--trace", trace(args, 0), "--requests", "4", "--concurrency", "2"])


def single_row_ms(args):
    with Server(args, "off") as server:
        warm(args, server)
        return replay(args, server, ["--trace", trace(args, 0, "0"), "--requests", "6", "--concurrency", "1"])["tpot_ms"]["p50"]


def capacity(args):
    """Requests/s that eager completes in the closed loop."""
    with Server(args, "eager") as server:
        warm(args, server)
        found = replay(args, server, ["--trace", trace(args, 0), "--duration", f"{args.seconds:g}s", "--concurrency", str(args.clients)])
        return found["completed"] / found["scored_s"]


def judge(args, record, tpot_ms):
    found = measures.run_json([args.espalier, "replay", "--from", record, "--slo-ttft", TTFT, "--slo-tpot", f"{tpot_ms:.3f}ms"])
    return {"completed": found["completed"], "requests": found["requests"], "kinds": found["slo_kinds"], "ttft_p50_ms": found["ttft_ms"]["p50"],
            "tpot_p50_ms": found["tpot_ms"]["p50"], "tpot_p99_ms": found["tpot_ms"]["p99"], "late": found["send"]["late"]}


def run_one(args, setup, policy, load, tpots, repeat):
    """One replay, judged by each of the TPOTs; the first of them is sent along."""
    record = os.path.join(args.work, f"{policy.replace(':', '')}-{load}-{tpots[0]:.2f}-{repeat}.jsonl")
    words = ["--trace", trace(args, repeat), "--requests", str(setup["requests"]), "--slo-ttft", TTFT, "--slo-tpot", f"{tpots[0]:.3f}ms", "--record", record,
             "--prompt-seed", str(repeat), "--seed", str(repeat)]
    words += ["--concurrency", str(args.clients)] if load == "closed" else ["--rate", f"{setup['rate']:.4g}"]
    with Server(args, policy) as server:
        warm(args, server)
        before = server.cpu_s()
        found = replay(args, server, words)
        served_s = server.cpu_s() - before
    client_s, wall_s = found["end"]["client_cpu_s"], found["end"]["wall_s"]
    return {"policy": policy, "load": load, "repeat": repeat, "wall_s": wall_s, "server_cores": served_s / wall_s, "client_cores": client_s / wall_s,
            "judged": [{"tpot_ms": tpot, **judge(args, record, tpot)} for tpot in tpots]}


def prepare(args):
    measures.note("goodput_live.sh: the step of a single row, and what the engine can do")
    step = single_row_ms(args)
    most = capacity(args)
    return {"single_row_ms": step, "tpot_ms": [step * times for times in TIMES], "capacity": most, "rate": most * NEAR,
            "requests": args.requests or max(FEWEST, round(most * args.seconds))}


def plan(args, setup):
    """In turns: each repeat has every policy at every load; who begins changes."""
    for repeat in range(1, args.repeats + 1):
        for load in LOADS:
            for i in range(len(args.policies)):
                policy = args.policies[(i + repeat) % len(args.policies)]
                looks = policy.startswith("taper")
                for tpots in ([[tpot] for tpot in setup["tpot_ms"]] if looks else [setup["tpot_ms"]]):
                    yield policy, load, tpots, repeat


def run(args):
    commit = revision.commit()  # as it is now, not at the end
    store = kept.Kept(os.path.join(args.work, "finished.jsonl"), args.espalier)
    asked = [str(args.seconds), str(args.clients), str(args.requests)]
    setup = store.get(["prepare", *asked], lambda: prepare(args))
    measures.note(f"goodput_live.sh: a single row takes {setup['single_row_ms']:.2f} ms; {setup['capacity']:.2f} requests/s; {setup['requests']} requests a run")
    runs, places, begin = [], list(plan(args, setup)), time.monotonic()
    for at, place in enumerate(places):
        left = (time.monotonic() - begin) / at * (len(places) - at) / 60 if at else 0
        measures.note(f"goodput_live.sh: {place[0]}, {place[1]}, repeat {place[3]}: {at} of {len(places)} done, {left:.0f} min left")
        words = ["run", *asked, *map(str, place)]
        runs.append(store.get(words, lambda place=place: run_one(args, setup, *place)))
    return {"simulated": False, "command": revision.command("goodput_live.sh"), "commit": commit, "machine": machine(), "setup": setup,
            "clients": args.clients, "repeats": args.repeats, "runs": runs, "summary": summary(setup, args.policies, runs)}


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


# --- figures

def judged(runs, policy, load, tpot):
    """Of each repeat, in their order."""
    found = [(run["repeat"], verdict) for run in runs for verdict in run["judged"] if (run["policy"], run["load"], verdict["tpot_ms"]) == (policy, load, tpot)]
    return [verdict for _, verdict in sorted(found, key=lambda each: each[0])]


def summary(setup, policies, runs):
    """For each load, TPOT and SLO kind: medians of each policy, and taper over the rival with the most goodput, in each repeat."""
    rows = []
    for load in LOADS:
        for tpot in setup["tpot_ms"]:
            for kind in KIND_NAMES:
                found = {policy: judged(runs, policy, load, tpot) for policy in policies}
                row = {"load": load, "tpot_ms": tpot, "slo_kind": kind, "policies": {}}
                for policy, verdicts in found.items():
                    figures = [verdict["kinds"][kind] for verdict in verdicts]
                    row["policies"][policy] = {name: statistics.median(figure[name] for figure in figures) for name in ("attainment", "requests_per_s", "tokens_per_s")}
                if "taper" in policies:
                    row["taper_over"] = over_rivals(row["policies"], found, kind)
                rows.append(row)
    return rows


def over_rivals(medians, found, kind):
    """By requests/s and by tokens/s: the best rival's name, and the ratio of each repeat; None where the rival met nothing."""
    out = {}
    for figure in ("requests_per_s", "tokens_per_s"):
        rival = max((policy for policy in medians if not policy.startswith("taper")), key=lambda policy: medians[policy][figure])
        pairs = [(a["kinds"][kind][figure], b["kinds"][kind][figure]) for a, b in zip(found["taper"], found[rival])]
        ratios = [a / b for a, b in pairs if b > 0]
        out[figure] = {"rival": rival, "ratios": ratios, "median": statistics.median(ratios) if ratios else None}
    return out


# --- tables

def over_words(row, figure):
    found = row.get("taper_over", {}).get(figure)
    if not found or found["median"] is None:
        return "-"
    return f"{found['median']:.2f} ({min(found['ratios']):.2f} to {max(found['ratios']):.2f}) {found['rival']}"


def load_words(document, row):
    setup = document["setup"]
    load = f"{document['clients']} clients" if row["load"] == "closed" else f"{setup['rate']:.2f} requests/s"
    return f"{load}, TPOT {row['tpot_ms']:.1f} ms, {KIND_NAMES[row['slo_kind']]}"


def table(document, kinds):
    rows = [row for row in document["summary"] if row["slo_kind"] in kinds]
    policies = list(rows[0]["policies"])
    lines = [[load_words(document, row), *(f"{p['requests_per_s']:.2f}, {p['tokens_per_s']:.0f} ({p['attainment']:.0%})" for p in row["policies"].values()),
              over_words(row, "requests_per_s"), over_words(row, "tokens_per_s")] for row in rows]
    return pages.table(["requests/s, tokens/s that met their SLO (attainment)", *policies, "taper / best rival, requests/s", "tokens/s"], lines)


def cores_words(document):
    served, client = ([run[name] for run in document["runs"]] for name in ("server_cores", "client_cores"))
    late = sum(any(verdict["late"] for verdict in run["judged"]) for run in document["runs"])
    return (f"Processor time a second of a run: the server {statistics.median(served):.2f} s, `replay` {statistics.median(client):.3f} s "
            f"(at most {max(client):.3f}). In {late} of {len(served)} runs requests went out late.")


def page(document, kinds):
    setup = document["setup"]
    return "\n\n".join([f"`{document['command']}`, {document['machine']}, {document['commit']}. A single row's step {setup['single_row_ms']:.2f} ms; `eager` completes "
                        f"{setup['capacity']:.2f} requests/s with {document['clients']} clients; {setup['requests']} requests a run, medians of {document['repeats']}; "
                        "a ratio is the median of the runs' ratios, with their range.", table(document, kinds), cores_words(document)])


def main():
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends, too
    with tempfile.TemporaryDirectory() as work:
        args.work = args.work or work
        os.makedirs(args.work, exist_ok=True)
        document = pages.document(args, run)
    if args.markdown:
        pages.write_section(args.markdown, "goodput_live.sh", page(document, args.kinds))
    print(json.dumps(document, indent=1) if args.json else page(document, args.kinds))


if __name__ == "__main__":
    sys.exit(main())
