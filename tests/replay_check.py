#!/usr/bin/env python3
"""Every figure of `espalier replay --json` again, from the raw times of its --record and from nothing else:
python3 tests/replay_check.py RECORD.jsonl FIGURES.json

Written from docs/replay.md and the definitions of traces/results/record.h, sharing no code with the C. Prints what
differs, one line each, and how many figures agree; exit status 1 when any differs.
"""
import collections
import json
import math
import sys

KINDS = ("mean", "envelope", "gaps", "stages")


def runs_of(path):
    """[(header, [record], end or None)] of a record file."""
    runs = []
    with open(path) as lines:
        for line in lines:
            value = json.loads(line)
            if "espalier_replay" in value:
                runs.append((value, [], []))
            elif "end" in value:
                runs[-1][2].append(value["end"])
            else:
                runs[-1][1].append(value)
    return [(header, records, ends[-1] if ends else None) for header, records, ends in runs]


class Request:
    def __init__(self, record):
        self.record = record
        self.sent, self.due, self.end = record["sent_us"], record["due_us"], record["end_us"]
        self.times = [token[0] for token in record["tokens"]]
        self.tokens = len(self.times)
        self.outcome, self.branching, self.name = record["outcome"], record["branching"], record["class"]
        self.ttft_limit, self.tpot_limit = record["slo_ttft_us"], record["slo_tpot_us"]
        self.first = self.times[0] if self.times else None
        self.last = self.times[-1] if self.times else None

    def parallel(self, stage):
        flags = self.record["parallel"]
        return stage < len(flags) and flags[stage]

    def gaps(self):
        """Between tokens of one sequence, whatever its stage."""
        last, gaps = {}, []
        for time, stage, branch in self.record["tokens"]:
            if (stage, branch) in last:
                gaps.append(time - last[stage, branch])
            last[stage, branch] = time
        return gaps

    def serial_gaps(self):
        tokens, gaps = self.record["tokens"], []
        for before, after in zip(tokens, tokens[1:]):
            if before[1] == after[1] and not self.parallel(after[1]):
                gaps.append(after[0] - before[0])
        return gaps

    def meets(self, kind):
        if self.outcome != "completed":
            return False
        if not self.ttft_limit and not self.tpot_limit:
            return True
        if not self.tokens:
            return False
        if self.ttft_limit and self.first - self.sent > self.ttft_limit:
            return False
        if not self.tpot_limit:
            return True
        base = self.sent + self.ttft_limit if self.ttft_limit else self.first
        if kind == "mean":
            return self.last - self.first <= self.tpot_limit * (self.tokens - 1)
        if kind == "envelope":
            return all(time <= base + j * self.tpot_limit for j, time in enumerate(self.times))
        gaps = self.serial_gaps()
        if kind == "gaps":
            return 20 * sum(gap > self.tpot_limit for gap in gaps) <= len(gaps)
        if sum(gaps) > self.tpot_limit * len(gaps):
            return False
        return not self.branching or self.last <= base + self.tpot_limit * self.tokens


def distribution(values):
    if not values:
        return {"count": 0}
    ordered = sorted(values)

    def rank(percent):
        return ordered[max(math.ceil(percent * len(ordered) / 100), 1) - 1]
    return {"count": len(ordered), "mean": sum(ordered) / len(ordered), "p50": rank(50), "p90": rank(90),
            "p99": rank(99), "max": ordered[-1]}


def group(requests, kind, seconds):
    outcomes = collections.Counter(request.outcome for request in requests)
    completed = [request for request in requests if request.outcome == "completed" and request.tokens]
    figures = {"requests": len(requests), "output_tokens": sum(request.tokens for request in requests),
               "ttft_ms": distribution([(r.first - r.sent) / 1e3 for r in completed]),
               "tpot_ms": distribution([(r.last - r.first) / 1e3 / (r.tokens - 1) for r in completed if r.tokens > 1]),
               "e2e_ms": distribution([(r.last - r.sent) / 1e3 for r in completed]), "slo_kinds": {}}
    for outcome in ("completed", "refused", "failed", "unfinished"):
        figures[outcome] = outcomes[outcome]
    for each in KINDS:
        good = [request for request in requests if request.meets(each)]
        figures["slo_kinds"][each] = {
            "attainment": len(good) / len(requests) if requests else None,
            "requests_per_s": len(good) / seconds if seconds else None,
            "tokens_per_s": sum(request.tokens for request in good) / seconds if seconds else None}
    chosen = figures["slo_kinds"][kind]
    figures["slo_attainment"] = chosen["attainment"]
    figures["goodput"] = {name: chosen[name] for name in ("requests_per_s", "tokens_per_s")}
    return figures


def figures_of(records, kind):
    requests = [Request(record) for record in records]
    seconds = max((request.end for request in requests), default=0) / 1e6
    figures = group(requests, kind, seconds)
    figures["scored_s"] = seconds
    figures["offered_rate"] = len(requests) / seconds if seconds else None
    figures["serial"] = group([r for r in requests if not r.branching], kind, seconds)
    figures["branching"] = group([r for r in requests if r.branching], kind, seconds)
    names = list(dict.fromkeys(request.name for request in requests))
    figures["classes"] = {name: group([r for r in requests if r.name == name], kind, seconds) for name in names}
    figures["reasons"] = dict(collections.Counter(
        (request.outcome, request.record["reason"]) for request in requests if request.record["reason"]))
    figures["itl_ms"] = distribution([gap / 1e3 for request in requests for gap in request.gaps()])
    delays = [(request.sent - request.due) / 1e3 for request in requests]
    late = sum(delay > 10 for delay in delays)
    figures["send"] = {
        "delay_ms": distribution(delays), "late_share": late / len(requests) if requests else 0.0,
        "late": late > 0.01 * len(requests),
        "rate_per_s": len(requests) / max(r.due for r in requests) * 1e6 if any(r.due for r in requests) else None,
        "connect_ms": distribution([(r.record["connected_us"] - r.sent) / 1e3 for r in requests
                                    if r.record["connected_us"] is not None])}
    done = [request for request in requests if request.outcome == "completed"]
    figures["lengths"] = {
        "prompts_counted_by_server": sum(r.record["usage_prompt"] is not None for r in done),
        "prompts_of_other_length": sum(r.record["usage_prompt"] not in (None, r.record["prompt_tokens"]) for r in done),
        "answers_of_other_length": sum(r.tokens != r.record["asked_tokens"] for r in done),
        "answers_with_several_tokens_a_chunk": sum(r.record["spread_tokens"] > 0 for r in done),
        "staged_answers_without_branches": sum(len(r.record["parallel"]) > 1 and not r.record["events"] for r in done)}
    return figures


class Comparison:
    def __init__(self):
        self.agreed, self.differences = 0, []

    def same(self, where, expected, found):
        # Gaps and delays go through a histogram: percentiles are within 1/256, mean and largest exact.
        loose = any(part in where for part in ("itl_ms.p", "delay_ms.p", "connect_ms.p"))
        if isinstance(expected, float) and isinstance(found, (int, float)):
            equal = math.isclose(expected, found, rel_tol=1 / 250 if loose else 1e-9, abs_tol=1e-3 if loose else 1e-9)
        else:
            equal = expected == found
        if equal:
            self.agreed += 1
        else:
            self.differences.append(f"{where}: recomputed {expected}, printed {found}")

    def compare(self, where, expected, found):
        if isinstance(expected, dict):
            for name, value in expected.items():
                inside = found.get(name) if isinstance(found, dict) else None
                self.compare(f"{where}.{name}" if where else str(name), value, inside)
        else:
            self.same(where, expected, found)


def check(record_path, printed):
    """(figures that agree, [differences])"""
    runs = runs_of(record_path)
    kind = printed["slo_kind"]
    candidates = [run for run in runs if run[0].get("search") == printed.get("search")]
    _, records, end = candidates[-1]
    expected = figures_of(records, kind)
    found = dict(printed)
    found["classes"] = {one["class"]: one for one in printed["classes"]}
    if not found["classes"]:  # nobody names one
        expected["classes"] = {}
    found["reasons"] = {(one["outcome"], one["reason"]): one["count"] for one in printed["reasons"]}
    expected["end"] = end
    result = Comparison()
    result.compare("", expected, found)
    if set(found["reasons"]) - set(expected["reasons"]):
        result.differences.append(f"reasons beyond those of the record: {printed['reasons']}")
    if "goodput_search" in printed:
        target = printed["search"]["attainment"]
        passed = [header["search"]["rate_per_s"] for header, flights, _ in runs
                  if figures_of(flights, kind)["slo_attainment"] >= target]
        result.same("goodput.max_rate", max(passed) if passed else None, printed["goodput"]["max_rate"])
    return result.agreed, result.differences


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2]) as printed:
        agreed, differences = check(sys.argv[1], json.load(printed))
    for difference in differences:
        print(difference)
    print(f"{agreed} figures agree, {len(differences)} differ")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
