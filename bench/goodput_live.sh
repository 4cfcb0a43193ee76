#!/usr/bin/env bash
# Goodput of the policies on the real engine: the default model in 4 bits (VSQ4z), `espalier serve` and `espalier replay` on this machine,
# a branch-heavy trace in a closed loop and at a rate near capacity, TTFT 2 s, TPOT 3 and 6 times the step of a single row.
#
#   bash bench/goodput_live.sh [--quick] [--policies off,eager,cap:2,cap:4,taper] [--repeats 5] [--seconds 25] [--clients 8] [--work DIR]
#     [--out FILE] [--from FILE] [--markdown docs/goodput.md] [--json]
#
# Wants a machine that does nothing else. Medians of 5 runs of each policy, in turns; about 35 minutes, --quick about 4. With --work DIR
# the records stay there, and a run that was stopped goes on where it stood.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

bench_help "$@"
RTN=$ROOT/models/smollm2-vsq4z-rtn
{
    bench_prepare
    model_fetch
    [ -f "$RTN/quantization.json" ] || "$ROOT/build/espalier" quantize --model "$MODEL_PATH" --out "$RTN" --method rtn
} >&2
exec python3 "$ROOT/bench/goodput_live.py" --espalier "$ROOT/build/espalier" --model "$RTN" "$@"
