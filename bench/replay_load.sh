#!/usr/bin/env bash
# How much `espalier replay` can take, and how true its times are: bench/replay_load.sh [STREAMS] [TOKENS_PER_S]
# One core for replay, another for the stub server (bench/stub_server), both before everything else on the machine
# where that is allowed (chrt needs root).
#   load     STREAMS (2000) streams at once, TOKENS_PER_S (50000) of them together, with --record. Asked: no request
#            fails, the time per token is the stub's within 1 %, and the core is not full.
#   timing   100 requests/s of 50 tokens, 50 ms to the first and 20 ms between: each token's time beside its due one.
#            Asked: within 1 ms at the median, 5 ms at p99 (issue 7).
# Exit status 1 when something asked for is missed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
bench_help "$@"
[ -x "$ROOT/build/espalier" ] && [ -x "$ROOT/build/stub_server" ] || fail "build first: cmake --build build"
streams=${1:-2000} rate=${2:-50000}
scratch=$(mktemp -d)
stub=
trap '[ -z "$stub" ] || kill "$stub"; rm -rf "$scratch"' EXIT
first=()
chrt -f 20 true 2>/dev/null && first=(chrt -f 20)
[ "$(nproc)" -ge 2 ] || fail "two cores are needed"

# start_stub OPTIONS...: url
start_stub() {
    "${first[@]}" taskset -c 1 "$ROOT/build/stub_server" "$@" >"$scratch/stub.log" &
    stub=$!
    for _ in $(seq 100); do grep -q listening "$scratch/stub.log" && break; sleep 0.05; done
    url=$(awk '{print $NF}' "$scratch/stub.log")
}

replay() { "${first[@]}" taskset -c 0 "$ROOT/build/espalier" replay "$@" --json --record "$scratch/record.jsonl"; }

gap=$(awk "BEGIN {print 1000 * $streams / $rate}")
tokens=$(awk "BEGIN {print int(8000 / $gap)}") # each stream takes 8 s
printf '{"arrival_ms": 0, "prompt_tokens": 30, "stages": [%d]}\n' "$tokens" >"$scratch/load.jsonl"
printf '{"arrival_ms": 0, "prompt_tokens": 300, "stages": [50]}\n' >"$scratch/timing.jsonl"

start_stub --ttft 200 --gap "$gap" --jitter 0.3
replay --trace "$scratch/load.jsonl" --url "$url" --concurrency "$streams" --requests $((2 * streams)) \
    >"$scratch/load.json" 2>/dev/null
load_stub=$(awk '{printf "%.1f", ($14 + $15) / 100}' "/proc/$stub/stat")
kill "$stub"; wait "$stub" 2>/dev/null || true; stub=
python3 - "$scratch/load.json" "$scratch/record.jsonl" "$streams" "$gap" "$load_stub" <<'PYTHON' || missed=1
import bisect, json, sys
figures, gap = json.load(open(sys.argv[1])), float(sys.argv[4])
streams = int(sys.argv[3])
records = [record for record in map(json.loads, open(sys.argv[2])) if "index" in record]
# The stretch in which all streams have begun and none has ended.
first = max(record["tokens"][0][0] for record in records if record["index"] < streams)
last = min(record["end_us"] for record in records)
times = sorted(token[0] for record in records for token in record["tokens"])
steady = (bisect.bisect(times, last) - bisect.bisect(times, first)) / ((last - first) / 1e6)
cpu = figures["end"]["client_cpu_s"] / figures["end"]["wall_s"]
tpot = figures["tpot_ms"]
print(f"load: {streams} streams, {steady:,.0f} tokens/s while all were there, {figures['output_tokens']:,} tokens in all")
print(f"  replay: {100 * cpu:.0f} % of a core ({1e6 * figures['end']['client_cpu_s'] / figures['output_tokens']:.1f} us "
      f"a token), stub {sys.argv[5]} s of {figures['end']['wall_s']:.1f} s")
print(f"  TPOT p50 {tpot['p50']:.2f} ms, p99 {tpot['p99']:.2f} ms; the stub's is {gap:.2f} ms")
missed = [words for words, wrong in (
    ("requests failed", figures["completed"] != figures["requests"]),
    (f"TPOT is not {gap} ms within 1 %", abs(tpot["p50"] - gap) > 0.01 * gap),
    ("the core is full", cpu > 0.99)) if wrong]
print("  MISSED: " + ", ".join(missed) if missed else "  as asked")
sys.exit(bool(missed))
PYTHON

start_stub --ttft 50 --gap 20
replay --trace "$scratch/timing.jsonl" --url "$url" --rate 100 --requests 1000 >"$scratch/timing.json" 2>/dev/null
python3 - "$scratch/record.jsonl" "$scratch/timing.json" <<'PYTHON' || missed=1
import json, sys
records = [record for record in map(json.loads, open(sys.argv[1])) if "index" in record]
send = json.load(open(sys.argv[2]))["send"]["delay_ms"]
def line(name, errors):
    errors.sort()
    p50, p99 = (errors[int(share * (len(errors) - 1))] for share in (0.5, 0.99))
    print(f"  {name}: off by {p50:.2f} ms at the median, {p99:.2f} ms at p99, {errors[-1]:.2f} ms at most ({len(errors)})")
    return p50 > 1 or p99 > 5
print("timing: 100 requests/s of 50 tokens")
print(f"  sent {send['p50']:.2f} ms behind their time at the median, {send['p99']:.2f} ms at p99")
times = [[token[0] - record["sent_us"] for token in record["tokens"]] for record in records]
missed = line("first token", [abs(each[0] - 50000) / 1e3 for each in times])
missed |= line("each token ", [abs(time - 50000 - 20000 * j) / 1e3 for each in times for j, time in enumerate(each)])
print("  MISSED" if missed else "  as asked")
sys.exit(missed)
PYTHON
exit "${missed:-0}"
