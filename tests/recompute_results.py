#!/usr/bin/env python3
"""Every figure of `espalier replay --json`, computed again from the raw record of --record.

    espalier replay ... --record run.jsonl --json > run.json
    tests/recompute_results.py run.jsonl run.json

Shares no code and no running sums with traces/results: each definition is written down again from
docs/results.md, over whole lists of token times. Prints what differs; exit status 0: nothing does,
1: something does, 2: a file cannot be read.
"""

import argparse
import json
import math
import sys
from collections import Counter, defaultdict

OUTCOMES = ("completed", "refused", "failed", "unfinished")
KINDS = ("mean", "envelope", "gaps", "stages")
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
LATE_US = 10_000
EXACT = 1e-9  # JSON has 12 digits
HISTOGRAM = 1 / 256  # percentiles of ITL, send delay and connect time; plus a microsecond


class Request:
    def __init__(self, line, ttft_us, tpot_us):
        self.line = line
        self.outcome = line["outcome"]
        self.sent = line["sent_us"]
        self.times = [us for us, _, _ in line["tokens"]]
        self.ttft_limit = line["slo_ttft_us"] if ttft_us is None else ttft_us
        self.tpot_limit = line["slo_tpot_us"] if tpot_us is None else tpot_us

    def serial(self, stage):
        parallel = self.line["parallel"]
        return stage >= len(parallel) or not parallel[stage]

    def serial_gaps(self):
        tokens = self.line["tokens"]
        return [b[0] - a[0] for a, b in zip(tokens, tokens[1:]) if a[1] == b[1] and self.serial(a[1])]

    def sequence_gaps(self):
        sequences = defaultdict(list)
        for us, stage, branch in self.line["tokens"]:
            sequences[stage, branch].append(us)
        return [b - a for times in sequences.values() for a, b in zip(times, times[1:])]

    def meets(self, kind):
        if self.outcome != "completed":
            return False
        if not self.ttft_limit and not self.tpot_limit:
            return True
        if not self.times:
            return False
        if self.ttft_limit and self.times[0] - self.sent > self.ttft_limit:
            return False
        if not self.tpot_limit:
            return True
        limit, count, gaps = self.tpot_limit, len(self.times), self.serial_gaps()
        start = self.sent + self.ttft_limit if self.ttft_limit else self.times[0]
        if kind == "mean":
            return count == 1 or self.times[-1] - self.times[0] <= limit * (count - 1)
        if kind == "envelope":
            return all(us <= start + j * limit for j, us in enumerate(self.times))
        if kind == "gaps":
            return not gaps or 100 * sum(gap <= limit for gap in gaps) >= 95 * len(gaps)
        if gaps and sum(gaps) > limit * len(gaps):
            return False
        return not self.line["branching"] or self.times[-1] <= start + limit * count

    def ttft_ms(self):
        return (self.times[0] - self.sent) / 1000

    def tpot_ms(self):
        return (self.times[-1] - self.times[0]) / 1000 / (len(self.times) - 1)

    def e2e_ms(self):
        return (self.times[-1] - self.sent) / 1000


class Difference:
    """Collects where the document is not what was expected, and which of its keys nobody asked about."""

    def __init__(self, document):
        self.document = document
        self.found = []
        self.checked = 0
        self.asked = set()

    def value(self, path):
        value = self.document
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return "nothing"
        return value

    def check(self, path, expected, relative=EXACT, absolute=0.0):
        self.checked += 1
        self.asked.add(path)
        found = self.value(path)
        if expected is None or isinstance(expected, (str, bool)):
            same = found == expected and type(found) is type(expected)
        elif isinstance(found, bool) or not isinstance(found, (int, float)):
            same = False
        else:
            same = abs(found - expected) <= relative * abs(expected) + absolute
        if not same:
            self.found.append(f"{'.'.join(map(str, path))}: found {found!r}, computed {expected!r}")

    def unasked(self, value, path=()):
        """Leaves of the document that no check looked at."""
        if path in self.asked:
            return
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from self.unasked(inner, path + (key,))
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                yield from self.unasked(inner, path + (i,))
        else:
            yield ".".join(map(str, path))


def nearest_rank(values, percent):
    """The smallest value that at least that share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def check_distribution(d, path, values, histogram=False):
    d.check(path + ("count",), len(values))
    if not values:
        for key in ("mean", *PERCENTILES, "max"):
            d.check(path + (key,), None)
        return
    d.check(path + ("mean",), math.fsum(values) / len(values))
    d.check(path + ("max",), max(values))
    for key, percent in PERCENTILES.items():
        expected = nearest_rank(values, percent)
        d.check(path + (key,), expected, HISTOGRAM if histogram else EXACT, 0.001 if histogram else 0.0)


def check_group(d, path, requests, kind, scored_s):
    counts = Counter(r.outcome for r in requests)
    d.check(path + ("requests",), len(requests))
    for outcome in OUTCOMES:
        d.check(path + (outcome,), counts[outcome])
    d.check(path + ("output_tokens",), sum(len(r.times) for r in requests))

    for k in KINDS:
        met = [r for r in requests if r.meets(k)]
        attainment = len(met) / len(requests) if requests else None
        rate = len(met) / scored_s if scored_s > 0 else None
        tokens = sum(len(r.times) for r in met) / scored_s if scored_s > 0 else None
        d.check(path + ("slo_kinds", k, "attainment"), attainment)
        d.check(path + ("slo_kinds", k, "requests_per_s"), rate)
        d.check(path + ("slo_kinds", k, "tokens_per_s"), tokens)
        if k == kind:
            d.check(path + ("slo_attainment",), attainment)
            d.check(path + ("goodput", "requests_per_s"), rate)
            d.check(path + ("goodput", "tokens_per_s"), tokens)
    if path or "goodput_search" not in d.document:  # one run is no search
        d.check(path + ("goodput", "max_rate"), None)
        d.check(path + ("goodput", "max_rate_interval"), None)

    answered = [r for r in requests if r.outcome == "completed" and r.times]
    check_distribution(d, path + ("ttft_ms",), [r.ttft_ms() for r in answered])
    check_distribution(d, path + ("tpot_ms",), [r.tpot_ms() for r in answered if len(r.times) > 1])
    check_distribution(d, path + ("e2e_ms",), [r.e2e_ms() for r in answered])


def check_classes(d, requests, kind, scored_s):
    names = list(dict.fromkeys(r.line["class"] for r in requests))
    if names == [""]:
        names = []
    d.check(("classes",), None) if not isinstance(d.value(("classes",)), list) else None
    if len(d.value(("classes",))) != len(names):
        d.found.append(f"classes: found {len(d.value(('classes',)))}, computed {names}")
    for i, name in enumerate(names):
        d.check(("classes", i, "class"), name)
        check_group(d, ("classes", i), [r for r in requests if r.line["class"] == name], kind, scored_s)


def check_reasons(d, requests):
    expected = Counter((r.outcome, r.line["reason"]) for r in requests if r.outcome in ("refused", "failed"))
    rows = d.value(("reasons",))
    found = {(row["outcome"], row["reason"]): row["count"] for row in rows}
    d.checked += 1
    d.asked.add(("reasons",))
    if found != dict(expected):
        d.found.append(f"reasons: found {found}, computed {dict(expected)}")
    if [row["count"] for row in rows] != sorted((row["count"] for row in rows), reverse=True):
        d.found.append("reasons: not the most frequent first")


def late_share(requests):
    return sum(r.sent - r.line["due_us"] > LATE_US for r in requests) / len(requests) if requests else 0


def send_rate(requests):
    """Arrivals behind the run's beginning, in a second of the time to the last."""
    due = [r.line["due_us"] for r in requests if r.line["due_us"] > 0]
    return 1e6 * len(due) / max(due) if due else None


def check_send(d, requests):
    delays = [(r.sent - r.line["due_us"]) / 1000 for r in requests]
    late = late_share(requests)
    connects = [(r.line["connected_us"] - r.sent) / 1000 for r in requests if r.line["connected_us"] is not None]
    d.check(("send", "late_share"), late)
    d.check(("send", "late"), late > 0.01)
    d.check(("send", "late_means_ms_over"), LATE_US / 1000)
    d.check(("send", "rate_per_s"), send_rate(requests))
    check_distribution(d, ("send", "delay_ms"), delays, histogram=True)
    check_distribution(d, ("send", "connect_ms"), connects, histogram=True)


def check_lengths(d, requests):
    completed = [r for r in requests if r.outcome == "completed"]
    told = [r for r in completed if r.line["usage_prompt"] is not None]
    d.check(("lengths", "prompts_counted_by_server"), len(told))
    d.check(
        ("lengths", "prompts_of_other_length"),
        sum(r.line["usage_prompt"] != r.line["prompt_tokens"] for r in told),
    )
    d.check(
        ("lengths", "answers_of_other_length"),
        sum(len(r.times) != r.line["asked_tokens"] for r in completed),
    )
    d.check(
        ("lengths", "answers_with_several_tokens_a_chunk"),
        sum(r.line["spread_tokens"] > 0 for r in completed),
    )
    d.check(
        ("lengths", "staged_answers_without_branches"),
        sum(len(r.line["parallel"]) > 1 and not r.line["events"] for r in completed),
    )


def check_steps(d):
    """A client sees no steps."""
    d.check(("steps", "count"), 0)
    d.check(("steps", "predicted_error"), None)
    check_distribution(d, ("steps", "latency_ms"), [])
    check_distribution(d, ("steps", "width"), [])


def scored_seconds(requests):
    return max((r.line["end_us"] for r in requests), default=0) / 1e6


def compare(header, requests, document):
    d = Difference(document)
    kind, scored_s = document["slo_kind"], scored_seconds(requests)
    d.check(("slo_kind",), kind if kind in KINDS else "one of " + ", ".join(KINDS))
    d.check(("scored_s",), scored_s)
    searched = header.get("search")  # its rate was asked for; else it is that of the arrivals
    d.check(("offered_rate",), searched["rate_per_s"] if searched else send_rate(requests))
    check_group(d, (), requests, kind, scored_s)
    check_group(d, ("serial",), [r for r in requests if not r.line["branching"]], kind, scored_s)
    check_group(d, ("branching",), [r for r in requests if r.line["branching"]], kind, scored_s)
    check_classes(d, requests, kind, scored_s)
    check_reasons(d, requests)
    gaps = [gap / 1000 for r in requests for gap in r.sequence_gaps()]
    check_distribution(d, ("itl_ms",), gaps, histogram=True)
    check_send(d, requests)
    check_lengths(d, requests)
    check_steps(d)
    return d


def limits_anew(document):
    """The limits by which --from judged every request, in us; None: its own."""
    anew = document.get("judged_anew", {}).get("slo", {})
    return [round(1000 * anew[key]) if key in anew else None for key in ("ttft_ms", "tpot_ms")]


def check_limits(d, header):
    """What the document says of the limits: the record's, where --from was told no others."""
    anew = d.document.get("judged_anew", {})
    for key, value in {**header.get("slo", {}), **anew.get("slo", {})}.items():
        d.check(("slo", key), value)
    for key in ("slo_kind", "attainment_target"):
        if key in header or key in anew:
            d.check((key,), anew.get(key, header.get(key)))


def read_runs(path, ttft_us, tpot_us):
    """[(header, requests, end)] of a record file; a last line that was cut off is left out."""
    runs = []
    with open(path, encoding="utf-8") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:
                if text.endswith("\n"):
                    raise
                continue
            if "espalier_replay" in line:
                runs.append([line, [], None])
            elif "end" in line:
                runs[-1][2] = line["end"]
            else:
                runs[-1][1].append(Request(line, ttft_us, tpot_us))
    return runs


def target(header, document):
    return document.get("judged_anew", {}).get("attainment_target", header["search"]["attainment"])


def searched_run(runs, document):
    """Of a search: its probes are checked, and the run at the highest rate that passed is returned (the lowest rate
    when none did). What was sent late passes nothing; what was stopped is not judged."""
    d, kind = Difference(document), document["slo_kind"]
    rates = [header["search"]["rate_per_s"] for header, _, _ in runs]
    passed, whole = [], []
    if len(document["goodput_search"]["probes"]) != len(runs):
        d.found.append(f"goodput_search.probes: not the {len(runs)} of the record")
    for i, (header, requests, end) in enumerate(runs):
        path, scored_s = ("goodput_search", "probes", i), scored_seconds(requests)
        met = [r for r in requests if r.meets(kind)]
        attainment = len(met) / len(requests) if requests else None
        if end and not end["interrupted"]:
            whole.append(i)
        on_time = late_share(requests) <= 0.01
        if requests and attainment >= target(header, document) and i in whole and on_time:
            passed.append(i)
        d.check(path + ("rate_per_s",), rates[i])
        d.check(path + ("requests",), len(requests))
        d.check(path + ("attainment",), attainment)
        d.check(path + ("requests_per_s",), len(met) / scored_s if scored_s else None)
        d.check(path + ("tokens_per_s",), sum(len(r.times) for r in met) / scored_s if scored_s else None)
        d.check(path + ("passed",), i in passed if i in whole else None)
        d.check(path + ("interrupted",), i not in whole)
        d.check(path + ("late",), late_share(requests) > 0.01)
    d.check(("goodput_search", "interrupted"), len(whole) < len(runs))
    if not passed:
        d.check(("goodput", "max_rate"), None)
        d.check(("goodput", "max_rate_interval"), None)
        return runs[min(whole or range(len(runs)), key=lambda i: rates[i])], d
    best = max(rates[i] for i in passed)
    d.check(("goodput", "max_rate"), best)
    d.check(("goodput", "max_rate_interval", 0), best)
    d.check(("goodput", "max_rate_interval", 1), min((rates[i] for i in whole if rates[i] > best), default=None))
    return runs[next(i for i in passed if rates[i] == best)], d


def differences(record, document):
    """(figures compared, requests, [what differs or is not recomputed]) of a record file and a document."""
    runs = read_runs(record, *limits_anew(document))
    found, checked, run = [], 0, runs[0]
    if "goodput_search" in document:
        run, search = searched_run(runs, document)
        found += search.found
        checked += search.checked
    d = compare(run[0], run[1], document)
    check_limits(d, run[0])
    # What is left says in words how the run was made; most of it stands in the record's header.
    told = set(run[0]) | {"command", "recorded_command", "judged_anew", "end", "goodput_search", "notices"}
    for path in d.unasked(document):
        searched = "goodput_search" in document and path.startswith("goodput.max_rate")
        if path.split(".")[0] not in told and not searched:
            d.found.append(f"{path}: nothing recomputes it")
    return checked + d.checked, len(run[1]), found + d.found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", help="the JSON lines of --record")
    parser.add_argument("results", help="the document of --json")
    options = parser.parse_args()
    try:
        with open(options.results, encoding="utf-8") as file:
            document = json.load(file)
        checked, requests, found = differences(options.record, document)
    except (OSError, ValueError) as problem:
        print(f"{problem}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"{checked} figures of {requests} requests: {len(found)} differ", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
