#!/usr/bin/env bash
# The pair that the paper reports, 1.77x the goodput of no branch parallelism and 1.48x of eager branching, in the strict measure:
# each policy at its own best prefill chunk and its own highest rate (or, closed loop, its best number of clients). One setting in
# which both hold, and its neighbours. Simulated; bench/same_load.sh has the other measure.
#
#   bash bench/paper_pair.sh [--quick] [--settings LIST] [--kinds mean,gaps] [--seeds N] [--jobs N] [--out FILE] [--from FILE]
#     [--markdown docs/goodput.md] [--json]
#
# --quick: the one setting alone, two seeds, D4. A run that was stopped goes on where it stood.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

bench_help "$@"
bench_prepare >&2
exec python3 "$ROOT/bench/paper_pair.py" --espalier "$ROOT/build/espalier" "$@"
