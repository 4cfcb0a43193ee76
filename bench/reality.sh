#!/usr/bin/env bash
# The simulator beside reality: a profile of the default model recorded on this machine, then one trace replayed against
# the real server and simulated, for policies off and eager. A PASS or FAIL for each bound.
#
#   bash bench/reality.sh [--rate R] [--requests N] [--policies LIST] [--seconds S] [--repeats N] [--json]
#
# Wants a machine that does nothing else. Exit status 1 when a bound is not met. About 6 minutes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

bench_help "$@"
bench_prepare >&2
model_fetch >&2
exec python3 "$ROOT/bench/reality.py" --espalier "$ROOT/build/espalier" --model "$MODEL_PATH" "$@"
