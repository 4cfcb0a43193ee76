#!/usr/bin/env bash
# What the engine costs beside the model: HTTP, JSON, SSE and scheduling at 32 streams in steady decode, by thread and by
# part, as a share of a step. PASS or FAIL against 5 %.
#
#   bash bench/overhead.sh [--model PATH]... [--espalier BINARY]... [--repeats N] [--realtime] [--json]
#
# Without --model: the default model, and its 4 bits (`espalier quantize --method rtn`). Several binaries are measured in
# turns. On a machine that does other work too: --realtime. `perf` tells the parts apart (it is installed where it can be).
# Exit status 1 when the bound is not met. About a minute a model. overhead.py says what is measured; --help shows it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

case " $* " in
*" -h "* | *" --help "*)
    sed -n 's/^#\( \|$\)//p; /^set /q' "${BASH_SOURCE[0]}"
    exec python3 "$ROOT/bench/overhead.py" --help
    ;;
esac

RTN=$ROOT/models/smollm2-vsq4z-rtn
models=() binaries=()
{
    bench_prepare
    command -v perf >/dev/null || (packages_install 'linux-perf command -v perf') || say "goes on without perf"
    if [[ " $*" != *" --model"* ]]; then
        model_fetch
        [ -f "$RTN/quantization.json" ] || "$ROOT/build/espalier" quantize --model "$MODEL_PATH" --out "$RTN" --method rtn
        models=(--model "$MODEL_PATH" --model "$RTN")
    fi
    [[ " $*" == *" --espalier"* ]] || binaries=(--espalier "$ROOT/build/espalier")
} >&2
exec python3 "$ROOT/bench/overhead.py" "${binaries[@]}" "${models[@]}" "$@"
