#!/usr/bin/env bash
# The policies at the same load, which is what the paper's 1.77x and 1.48x appear to be: one trace for all of them whose load varies
# as real days do, over the whole range of loads: requests/s and tokens/s of requests that met their SLO, and taper's over each
# rival at two loads: the highest at which the best rival still attains 90 %, and the highest at which taper attains 95 %.
#
#   bash bench/same_load.sh [--quick] [--traces azure,two-level] [--modes noshare,shared] [--kinds gaps] [--days N] [--jobs N]
#     [--branching 0.5] [--width 8:16] [--out FILE] [--from FILE] [--markdown docs/goodput.md] [--plot FILE.svg] [--json]
#
# azure: the rate of the Azure conversation trace's hour, as means of 250 s, thinned to our load. two-level: fifteen minutes of a rate and
# fifteen of twice as much. A day is an hour of either; `--days` of them, each other requests, the same for every policy.
# Simulated. A run that was stopped goes on where it stood (--keep FILE, default build/same_load.jsonl).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

bench_help "$@"
bench_prepare >&2
exec python3 "$ROOT/bench/same_load.py" --espalier "$ROOT/build/espalier" "$@"
