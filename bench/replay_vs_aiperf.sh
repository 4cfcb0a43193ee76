#!/usr/bin/env bash
# `espalier replay` beside NVIDIA's aiperf on the same steady load of our server: a PASS or FAIL for each figure.
#
#   bash bench/replay_vs_aiperf.sh [--turns N] [--rate R | --concurrency N] [--requests N] [--prompt N] [--output N] [--stub]
#
# aiperf is installed once, in a virtual environment of its own below ~/.cache/espalier (0.6 GB).
# replay_vs_aiperf.py says what is measured.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
bench_help "$@"
requirements=$ROOT/tests/clients/requirements/aiperf.txt
venv=$HOME/.cache/espalier/aiperf
model_fetch >&2
[ -x "$ROOT/build/espalier" ] && [ -x "$ROOT/build/stub_server" ] || fail "build first: cmake --build build"
if [ ! -x "$venv/bin/aiperf" ]; then
    say "installing aiperf into $venv" >&2
    python3 -m venv "$venv" && "$venv/bin/pip" install -q --no-compile -r "$requirements" >&2
fi
exec "$venv/bin/python" "$ROOT/bench/replay_vs_aiperf.py" --model "$MODEL_PATH" "$@"
