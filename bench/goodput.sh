#!/usr/bin/env bash
# Goodput of every policy by simulation: workloads W1..W10, branches that share their prefix and branches that do not,
# SLO kinds mean and gaps, each policy at its own best prefill chunk and at the largest that fits the SLO.
#
#   bash bench/goodput.sh [--quick | --study] [--workloads W1,W4] [--policy LIST] [--seeds N] [--kinds LIST] [--chunks LIST]
#     [--out FILE] [--from FILE] [--markdown docs/goodput.md] [--json]
#
# --quick: three workloads, two seeds, one chunk; under two minutes, part of the tests.
# --study: the cells of the controller study (chunk 256, off, eager, cap:2, cap:8) beside what the study measured.
# --kinds mean,envelope,gaps,stages: all four SLO kinds; twice as long.
# --from FILE: the tables of what --out or --json wrote, without a run. --markdown: into that page, between its markers.
# Everything here is simulated (docs/goodput.md). A run that was stopped goes on where it stood.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

bench_help "$@"
bench_prepare >&2
exec python3 "$ROOT/bench/goodput.py" --espalier "$ROOT/build/espalier" "$@"
