#!/usr/bin/env python3
"""The policies at the same load; started by same_load.sh.

A day is one trace, generated for each load: the same requests in the same order, closer together where the load is higher. What
met its SLO is divided by the day's length, for every policy the same. Attainment is over all days together; a ratio is the
geometric mean over days with its 95 % interval. Each policy has its own best prefill chunk, that of its highest rate.
"""
import argparse
import concurrent.futures
import json
import math
import os
import sys
import tempfile

import curves
import kept
import measures
import pages
import ratios
import revision

KIND_NAMES = {"mean": "D1", "envelope": "D2", "gaps": "D4", "stages": "D6"}
PROFILES = {"shared": "study-h200", "noshare": "study-h200-noshare"}
# Requests of the Azure conversation trace in each 250 s of its hour (traces/workload/arrivals_azure.c, 50 bins each).
AZURE = (1182, 1180, 1279, 1236, 1399, 1593, 1863, 1931, 1718, 1365, 1426, 1129, 1101, 962)
TRACES = {"azure": (",".join(f"{count}:250s" for count in AZURE), 3500), "two-level": ("1:900s,2:900s", 3600)}
RIVALS = ("off", "eager", "cap:2", "cap:4")
PAIR = {"off": 1.77, "eager": 1.48}  # arXiv 2605.06914
POLICIES = (*RIVALS, "taper")
STEP = 1.02  # the loads' grid
RIVAL_SHARE, TAPER_SHARE = 0.90, 0.95
CURVE = (0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)  # of the load at which taper attains 95 %


def parse():
    parser = argparse.ArgumentParser(prog="same_load.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="two-level days, noshare, two of them")
    parser.add_argument("--traces", help="azure, two-level (default both)")
    parser.add_argument("--modes", help="noshare, shared (default both)")
    parser.add_argument("--kinds", default="gaps", help="SLO kinds: mean, envelope, gaps, stages (default gaps)")
    parser.add_argument("--days", type=int)
    parser.add_argument("--branching", default="0.5")
    parser.add_argument("--width", default="8:16")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", help="finished runs (default build/same_load.jsonl)")
    pages.add_options(parser)
    parser.add_argument("--plot", metavar="FILE.svg", help="tokens/s over the load")
    args = parser.parse_args()
    args.traces = (args.traces or ("two-level" if args.quick else "azure,two-level")).split(",")
    args.modes = (args.modes or ("noshare" if args.quick else "noshare,shared")).split(",")
    args.kinds = args.kinds.split(",")
    args.days = args.days or (2 if args.quick else 6)
    args.keep = args.keep or os.path.join(revision.ROOT, "build", "same_load.jsonl")
    for words, allowed, what in ((args.traces, TRACES, "trace"), (args.modes, PROFILES, "sharing mode"), (args.kinds, KIND_NAMES, "SLO kind")):
        for word in words:
            if word not in allowed:
                parser.error(f"{what} '{word}': {', '.join(allowed)} are allowed")
    return args


# --- runs

class Bed:
    """One kind of day in one sharing mode, judged by one SLO kind."""

    def __init__(self, args, store, pool, work, trace, mode, kind):
        self.args, self.store, self.pool, self.work = args, store, pool, work
        self.trace, self.mode, self.kind = trace, mode, kind
        self.levels, self.seconds = TRACES[trace]
        self.chunks, self.rates, self.points = {}, {}, {}

    def generation(self, load, day):
        return ["trace", "generate", "--preset", "W4", "--branching", self.args.branching, "--width", self.args.width, "--rate", f"{load:.6g}",
                "--rate-levels", self.levels, "--duration", f"{self.seconds}s", "--seed", str(day)]

    def day_file(self, load, day):
        path = os.path.join(self.work, f"{self.trace}-{load:.6g}-{day}-{os.getpid()}-{id(self)}.jsonl")
        if not os.path.exists(path):
            part = tempfile.NamedTemporaryFile(dir=self.work, delete=False).name
            measures.run([self.args.espalier, *self.generation(load, day), "--out", part])
            os.replace(part, path)
        return path

    def choose_chunk(self, policy):
        """With it the policy has its highest rate, over pieces of the first day."""
        words = ["simulate", "--profile", PROFILES[self.mode], "--policy", policy, "--slo-kind", self.kind, "--goodput", "--brief", "--prefill-chunk", "best",
                 "--seeds", "4", "--duration", "1200s", "--jobs", "1"]

        def make():
            found = measures.run_json([self.args.espalier, *words, "--trace", self.day_file(1, 1)])["policies"][0]
            return [found["prefill_chunk"], found["goodput"]["max_rate"]]
        return self.store.get([*words, *self.generation(1, 1)], make)

    def run_day(self, policy, load, day):
        """What the policy made of one day."""
        words = ["simulate", "--profile", PROFILES[self.mode], "--policy", policy, "--slo-kind", self.kind, "--prefill-chunk", str(self.chunks[policy]),
                 "--warmup", "0s", "--jobs", "1"]

        def make():
            found = measures.run_json([self.args.espalier, *words, "--trace", self.day_file(load, day)])["policies"][0]
            share = found["scored_s"] / self.seconds
            return {"requests": found["requests"],
                    "kinds": {kind: [met["attainment"], met["requests_per_s"] * share, met["tokens_per_s"] * share] for kind, met in found["slo_kinds"].items()}}
        return self.store.get([*words, *self.generation(load, day)], make)

    def run_days(self, policies, load):
        """{policy: its figures at this load}: attainment of all days together, and each day's requests/s and tokens/s that met."""
        days = range(1, self.args.days + 1)
        wanted = [policy for policy in policies if (policy, load) not in self.points]
        tasks = {(policy, day): self.pool.submit(self.run_day, policy, load, day) for policy in wanted for day in days}
        for policy in wanted:
            found = [tasks[policy, day].result() for day in days]
            met = sum(run["kinds"][self.kind][0] * run["requests"] for run in found)
            self.points[policy, load] = {"attainment": met / sum(run["requests"] for run in found),
                                         "requests_per_s": [run["kinds"][self.kind][1] for run in found],
                                         "tokens_per_s": [run["kinds"][self.kind][2] for run in found]}
        return {policy: self.points[policy, load] for policy in policies}

    def highest(self, policies, share, start):
        """The highest load of the grid at which one of the policies attains the share; 0: none down to a tenth of where it begins."""
        def holds(level):
            return max(found["attainment"] for found in self.run_days(policies, STEP ** level).values()) >= share
        at = round(math.log(start) / math.log(STEP))
        least = at - round(math.log(10) / math.log(STEP))
        up = holds(at)
        step = 4
        low = high = at
        while up and holds(high + step):
            high += step
            step *= 2
        while not up and low - step > least and not holds(low - step):
            low -= step
            step *= 2
        low, high = (high, high + step) if up else (low - step, low)
        if low <= least:
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return STEP ** low


def compare(found):
    """taper over each rival, and over the best one, in what met its SLO."""
    out = {}
    for figure in ("requests_per_s", "tokens_per_s"):
        best = max(RIVALS, key=lambda rival: sum(found[rival][figure]))
        for rival in (*RIVALS, "best"):
            mine, its = found["taper"][figure], found[best if rival == "best" else rival][figure]
            ratio = ratios.mean_of_independent([a / b for a, b in zip(mine, its)]) if min(its) > 0 else None
            out.setdefault(rival, {})[figure] = ratio
        out["best"][f"{figure}_of"] = best
    return out


def point(bed, name, load):
    found = bed.run_days(POLICIES, load)
    return {"at": name, "load": load, "policies": found, "taper_over": compare(found)}


def measure(args, store, pool, work, trace, mode, kind):
    bed = Bed(args, store, pool, work, trace, mode, kind)
    chosen = {policy: pool.submit(bed.choose_chunk, policy) for policy in POLICIES}
    for policy, task in chosen.items():
        bed.chunks[policy], bed.rates[policy] = task.result()
    strongest = sorted(RIVALS, key=lambda policy: bed.rates[policy])[-2:]
    of_rivals = bed.highest(strongest, RIVAL_SHARE, max(bed.rates[policy] for policy in strongest) or 0.5)
    of_taper = bed.highest(["taper"], TAPER_SHARE, bed.rates["taper"] or 0.5)
    points = [point(bed, name, load) for name, load in (("best rival at 90 %", of_rivals), ("taper at 95 %", of_taper)) if load > 0]
    curve = [point(bed, f"{share:.2f}", of_taper * share) for share in CURVE] if of_taper > 0 else []
    return {"trace": trace, "mode": mode, "slo_kind": kind, "chunks": bed.chunks, "day": "espalier " + " ".join(bed.generation(1, 1)), "points": points,
            "curve": curve}


def run(args):
    commit = revision.commit()  # as it is now, not at the end
    store, measured = kept.Kept(args.keep, args.espalier), []
    places = [(trace, mode, kind) for kind in args.kinds for mode in args.modes for trace in args.traces]
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for at, place in enumerate(places):
            measures.note(f"same_load.sh: {' '.join(place)}, {at} of {len(places)} done")
            measured.append(measure(args, store, pool, work, *place))
            for name in os.listdir(work):
                os.remove(os.path.join(work, name))
    return {"simulated": True, "command": revision.command("same_load.sh"), "commit": commit, "days": args.days, "branching": args.branching,
            "width": args.width, "measured": measured}


# --- tables

def title(found):
    return f"{found['trace']}{', own' if found['mode'] == 'noshare' else ''}, {KIND_NAMES[found['slo_kind']]}"


def quotes(document):
    """taper over off, eager and the best rival at the two loads."""
    rows = []
    for found in document["measured"]:
        for quoted in found["points"]:
            for figure, word in (("tokens_per_s", "tokens/s"), ("requests_per_s", "requests/s")):
                over, policies = quoted["taper_over"], quoted["policies"]
                best = over["best"][f"{figure}_of"]
                rows.append([f"{title(found)}, {quoted['at']}: {word}", f"{quoted['load']:.3f}", f"{policies['taper']['attainment']:.1%}",
                             f"{policies[best]['attainment']:.1%}", ratios.words(over["off"][figure]), ratios.words(over["eager"][figure]),
                             f"{ratios.words(over['best'][figure])} {best}"])
    return pages.table(["taper over", "load, requests/s", "attainment", "best rival's", "off", "eager", "best rival"], rows)


def pair_words(found):
    """At which of the loads that were run both of the paper's pair hold, in tokens/s, while taper attains 95 %."""
    held = []
    for at in sorted(found["curve"] + found["points"], key=lambda at: at["load"]):
        over = [at["taper_over"][rival]["tokens_per_s"] for rival in PAIR]
        if at["policies"]["taper"]["attainment"] >= TAPER_SHARE and all(ratio and ratio[0] >= least for ratio, least in zip(over, PAIR.values())):
            held.append(f"{at['load']:.3f} ({over[0][0]:.2f} / {over[1][0]:.2f}, the best rival attains {max(at['policies'][rival]['attainment'] for rival in RIVALS):.0%})")
    words = " and ".join(f"{least} over {rival}" for rival, least in PAIR.items())
    return f"{title(found)}: {words} hold while taper attains {TAPER_SHARE:.0%} " + (f"at {', '.join(dict.fromkeys(held))}." if held else "at none of the loads.")


def curve_table(found):
    rows = []
    for at in found["curve"]:
        cells = [f"{sum(p['tokens_per_s']) / len(p['tokens_per_s']):.0f} ({p['attainment']:.0%})" for p in at["policies"].values()]
        over = at["taper_over"]
        rows.append([f"{at['load']:.3f}", *cells, *("-" if over[name]["tokens_per_s"] is None else f"{over[name]['tokens_per_s'][0]:.2f}" for name in ("off", "eager", "best"))])
    return pages.table([f"{title(found)}: load, requests/s", *(f"{policy} @{found['chunks'][policy]}" for policy in POLICIES), "taper / off", "/ eager", "/ best rival"], rows)


def page(document):
    parts = [f"`{document['command']}`, {document['days']} days, {document['branching']} of the requests branch {document['width'].replace(':', ' to ')} wide, "
             f"{document['commit']}.", quotes(document), *map(pair_words, document["measured"]), "Tokens/s of requests that met their SLO (attainment) over the load:"]
    return "\n\n".join(parts + [curve_table(found) for found in document["measured"]])


def main():
    args = parse()
    document = pages.document(args, run)
    if args.markdown:
        pages.write_section(args.markdown, "same_load.sh", page(document))
    if args.plot:
        panels = [{"title": title(found), "curves": {policy: [(at["load"], sum(at["policies"][policy]["tokens_per_s"]) / document["days"]) for at in found["curve"]]
                                                     for policy in POLICIES},
                   "marks": [(quoted["load"], quoted["at"]) for quoted in found["points"]]} for found in document["measured"]]
        curves.write(args.plot, panels, "load, requests/s", "tokens/s that met their SLO, simulated")
    if args.json:
        print(json.dumps(document, indent=1))
    else:
        print("Simulated, TTFT 2 s, TPOT 50 ms, what met its SLO at the same load\n\n" + "\n\n".join([quotes(document), *map(pair_words, document["measured"]), *map(curve_table, document["measured"])]))


if __name__ == "__main__":
    sys.exit(main())
