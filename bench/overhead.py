"""What the engine costs beside the model: CPU time and wall time of a decode step with many streams; started by overhead.sh.

The real server, one wave of equal requests by `espalier replay`, steady decode of all streams. In a window of it:

  period     wall time of a step: the mean of espalier_inter_token_latency_seconds
  executor   of it, inside the executor's submit and collect (espalier_executor_seconds_total)
  gap        period - executor: the compute threads wait for the host
  overhead   CPU time of every other thread of the server (HTTP, wake-ups, front-end, acceptor; the kernel's part of sending,
             up to the client's socket, included), and the engine thread's own outside the executor, per step

CPU times are the scheduler's own (/proc/PID/task/*/schedstat). The engine thread's is split, and parts are told apart, by
`perf record -g` over a second window; without perf all of the gap counts as the engine's. Sampling tokens is inside the executor.

Judged is overhead / the engine thread's CPU time in the executor: all of the overhead, as if none of it ran beside the model,
by the step without whatever else the machine does. Beside other work --realtime lets the server (priority 50, what is not
compute 51) and the client (51) go before it.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import measures

BOUND = 0.05
PERF_HZ = 2000
# Function names in a call chain, innermost wins: which part a sample of the HTTP thread or of the engine's belongs to.
HTTP_PARTS = (("send", {"__x64_sys_sendto", "__sys_sendto", "send", "__send", "__libc_send"}), ("render, JSON", {"completion_stream", "renderer_read"}),
              ("read_stream", {"read_stream"}), ("poll", {"epoll_wait", "__x64_sys_epoll_wait", "do_epoll_wait"}))
ENGINE_PARTS = (("executor", {"submit", "collect"}), ("bell", {"watcher_ring", "ring", "watcher_wake"}),
                ("token log, metrics", {"on_token", "on_finish", "on_done", "on_score"}), ("scheduler", {"scheduler_tick"}))
PARTS = [("engine", name) for name, _ in ENGINE_PARTS[1:]] + [("engine", "rest")] + \
        [("HTTP", name) for name, _ in HTTP_PARTS] + [("HTTP", "libmicrohttpd, rest"), ("watcher", "all"), ("other threads", "all")]


def parse():
    parser = argparse.ArgumentParser(prog="overhead.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", action="append", required=True, metavar="BINARY", help="several: measured in turns")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt (default 64)")
    parser.add_argument("--output", type=int, default=400, help="tokens of each answer (default 400)")
    parser.add_argument("--seconds", type=float, default=1.5, help="each of the two windows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--realtime", action="store_true", help="before all other work of the machine (root)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


# --- the server

class Server:
    """The real server; `with` stops it."""

    def __init__(self, args, espalier, model):
        self.log = open(os.path.join(args.work, "server.log"), "w+")
        self.process = subprocess.Popen([espalier, "serve", "--model", model, "--port", "0", "--json", "--max-rows", str(args.streams),
                                         "--kv-memory", "1GiB"], stdout=subprocess.PIPE, stderr=self.log, text=True)
        ready = measures.read_document(self.process.stdout)
        if ready is None:
            sys.exit("the server did not start:\n" + open(self.log.name).read()[-2000:])
        self.url = ready["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def counters(self):
        text = urllib.request.urlopen(self.url + "/metrics", timeout=60).read().decode()
        return {name: float(value) for name, value in re.findall(r"^(espalier_\w+) (\S+)$", text, re.M)}

    def threads(self):
        """tid: (name, CPU nanoseconds)"""
        out = {}
        base = f"/proc/{self.process.pid}/task"
        for tid in os.listdir(base):
            with open(f"{base}/{tid}/comm") as name, open(f"{base}/{tid}/schedstat") as stat:
                out[int(tid)] = (name.read().strip(), int(stat.read().split()[0]))
        return out


def snapshot(server):
    counters = server.counters()
    return {"threads": server.threads(), "at": time.monotonic(), "steps": counters["espalier_steps_total"],
            "executor": counters["espalier_executor_seconds_total"], "tokens": counters["espalier_inter_token_latency_seconds_count"],
            "between": counters["espalier_inter_token_latency_seconds_sum"]}


def put_before_others(server, client):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(52))
    for tid, (name, _) in server.threads().items():
        os.sched_setscheduler(tid, os.SCHED_FIFO, os.sched_param(50 if name in ("engine", "compute") else 51))
    for tid in os.listdir(f"/proc/{client.pid}/task"):
        os.sched_setscheduler(int(tid), os.SCHED_FIFO, os.sched_param(51))


# --- where samples of perf belong

def part_of(table, chain, rest):
    for function in chain:
        for name, functions in table:
            if function in functions:
                return name
    return rest


def group_of(thread):
    return {"engine": "engine", "compute": "compute", "watcher": "watcher"}.get(thread, "HTTP" if thread.startswith("MHD") else "other threads")


def shares_of_samples(data):
    """{thread group: {part: share of the group's samples}}"""
    text = measures.run(["perf", "script", "-i", data, "-F", "comm,tid,ip,sym"])[0]
    counts = {}
    for sample in text.strip().split("\n\n"):
        lines = sample.splitlines()
        group = group_of(lines[0].split()[0])
        chain = [line.split(None, 1)[1].strip() if len(line.split(None, 1)) > 1 else "" for line in lines[1:]]
        if group == "engine":
            part = "executor" if {"submit", "collect"} & set(chain) else part_of(ENGINE_PARTS, chain, "rest")
        elif group == "HTTP":
            part = part_of(HTTP_PARTS, chain, "libmicrohttpd, rest")
        else:
            part = "all"
        found = counts.setdefault(group, {})
        found[part] = found.get(part, 0) + 1
    return {group: {part: n / sum(found.values()) for part, n in found.items()} | {"samples": sum(found.values())} for group, found in counts.items()}


def record(args, server):
    data = os.path.join(args.work, "perf.data")
    measures.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(PERF_HZ), "--call-graph", "dwarf,8192", "-m", "4096", "-p", str(server.process.pid),
                  "-o", data, "--", "sleep", str(args.seconds)])
    return shares_of_samples(data)


# --- one measurement

def wait_for(server, tokens, client):
    while server.counters()["espalier_generation_tokens_total"] < tokens:
        if client.poll() is not None:
            sys.exit("the client ended before all streams were decoding")
        time.sleep(0.1)


def measure(args, espalier, model):
    with Server(args, espalier, model) as server:
        client = subprocess.Popen([args.espalier[-1], "replay", "--trace", args.trace, "--url", server.url, "--concurrency", str(args.streams), "--json"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        wait_for(server, args.streams * 10, client)
        if args.realtime:
            put_before_others(server, client)
        before = snapshot(server)
        time.sleep(args.seconds)
        after = snapshot(server)
        shares = record(args, server) if args.perf else None
        ended = client.poll() is not None
        document = json.loads(client.communicate()[0])
        if args.realtime:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    if ended or document["completed"] != args.streams:
        sys.exit("the answers ended before the window did: give a longer --output or fewer --seconds")
    return figures(args, before, after, shares)


def figures(args, before, after, shares):
    steps = after["steps"] - before["steps"]
    rows = (after["tokens"] - before["tokens"]) / steps
    if abs(rows - args.streams) > 0.5:
        sys.exit(f"{rows:.1f} tokens a step in the window, not {args.streams}: the streams were not all decoding")
    period = (after["between"] - before["between"]) / (after["tokens"] - before["tokens"]) * 1e6  # from step to step, exactly
    executor = (after["executor"] - before["executor"]) / steps * 1e6
    window = (after["at"] - before["at"]) * 1e6 / period
    cpu = {}
    for tid, (name, ns) in after["threads"].items():
        group = group_of(name)
        cpu[group] = cpu.get(group, 0) + (ns - before["threads"].get(tid, (name, ns))[1]) / window / 1e3
    out = {"steps": steps, "period us": period, "executor us": executor, "gap us": period - executor, "engine CPU us": cpu["engine"],
           "compute CPU us": cpu.get("compute", 0.0)}
    parts = {}
    for group, part in PARTS:
        if shares:
            parts[f"{group}: {part}"] = cpu.get(group, 0) * shares.get(group, {}).get(part, 0.0)
        else:
            parts[f"{group}: {part}"] = (period - executor if group == "engine" else cpu.get(group, 0)) if part in ("rest", "all", "libmicrohttpd, rest") else 0.0
    # Threads that perf did not see once still have their CPU time.
    for group in ("HTTP", "watcher", "other threads"):
        missing = cpu.get(group, 0) - sum(us for name, us in parts.items() if name.startswith(group + ":"))
        parts[next(f"{g}: {p}" for g, p in reversed(PARTS) if g == group)] += missing
    overhead = sum(parts.values())
    step = cpu["engine"] - sum(us for name, us in parts.items() if name.startswith("engine:"))
    return out | parts | {"overhead us": overhead, "step us": step, "of a step": overhead / step, "gap of a step": (period - executor) / period,
                          "of the executor's CPU": overhead / (step + cpu.get("compute", 0))}


def print_results(args, results):
    names = list(next(iter(results.values())))
    head = [""] + [f"{os.path.basename(model)}" + (f", {espalier}" if len(args.espalier) > 1 else "") for model, espalier in results]
    shares = ("of a step", "gap of a step", "of the executor's CPU")
    rows = [[name] + [f"{run[name]:.2%}" if name in shares else f"{run[name]:.0f}" if name == "steps" else f"{run[name]:.1f}" for run in results.values()]
            for name in names]
    rows.append([f"bound {BOUND:.0%} of a step"] + [measures.verdict(run["of a step"] <= BOUND) for run in results.values()])
    measures.print_table(head, rows)


def main():
    args = parse()
    args.perf = shutil.which("perf") is not None
    if not args.perf:
        measures.note("perf is not here: the engine thread's part is the gap, and parts are not told apart")
    runs = {}
    with tempfile.TemporaryDirectory() as args.work:
        args.trace = os.path.join(args.work, "trace.jsonl")
        measures.run([args.espalier[-1], "trace", "generate", "--lengths", f"lognormal:{args.prompt}:0:{args.output}:0", "--requests", str(args.streams),
                      "--rate", "1000", "--seed", "1", "--out", args.trace])
        for repeat in range(args.repeats):
            for model in args.model:
                for espalier in args.espalier:
                    found = measure(args, espalier, model)
                    runs.setdefault((model, espalier), []).append(found)
                    measures.note(f"repeat {repeat + 1} of {args.repeats}, {os.path.basename(model)}, {espalier}: a step of {found['step us'] / 1e3:.2f} ms "
                                  f"({found['period us'] / 1e3:.2f} with what else runs), overhead {found['overhead us']:.0f} us, {found['of a step']:.2%}")
    if any(run["period us"] > 1.3 * run["step us"] for found in runs.values() for run in found):
        measures.note("the machine does other work: the engine was kept from the cores for much of its steps" + ("" if args.realtime else "; see --realtime"))
    results = {key: {name: statistics.median(run[name] for run in found) for name in found[0]} for key, found in runs.items()}
    if args.json:
        print(json.dumps([{"model": model, "espalier": espalier, "median": results[model, espalier], "runs": runs[model, espalier],
                           "pass": results[model, espalier]["of a step"] <= BOUND} for model, espalier in results], indent=1))
    else:
        print_results(args, results)
    sys.exit(0 if all(run["of a step"] <= BOUND for run in results.values()) else 1)


if __name__ == "__main__":
    main()
