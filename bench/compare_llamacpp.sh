#!/usr/bin/env bash
# Espalier and llama.cpp side by side on this machine: decode, prefill and perplexity, as ratios beside their bars.
#
#   bash bench/compare_llamacpp.sh [--quick] [--repeats N] [--formats vsq4z,w8] [--text FILE] [--json]
#
# llama.cpp is built once and its files are made from the default model (bench/llamacpp.sh says how); so is our
# models/smollm2-vsq4z where it is absent. Without the text there is no perplexity, and that directory must be
# there. Exit status 1 when a bar is missed. compare_llamacpp.py says what is measured.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/llamacpp.sh"

bench_help "$@"
text=$EVALUATION_TEXT formats=vsq4z,w8 options=()
while [ $# -gt 0 ]; do
    case $1 in
        --text | --formats) [ $# -gt 1 ] || fail "$1 needs a value" ;;&
        --text) text=$2 && shift ;;
        --formats) formats=$2 && shift ;;
        *) options+=("$1") ;;
    esac
    shift
done
{
    bench_prepare
    model_fetch
    llamacpp_build
    llamacpp_model Q8_0 Q4_0 Q4_K_M
    [[ $formats != *vsq4z* ]] || vsq4z_model "$text"
} >&2
exec python3 "$ROOT/bench/compare_llamacpp.py" --espalier "$ROOT/build/espalier" --llama "$CACHE/build/bin" \
    --ours "vsq4z=$VSQ4Z" --ours "w8=$MODEL_PATH" --file "Q4_0=$Q4_0" --file "Q4_K_M=$Q4_K_M" --file "Q4_1=$MODEL_PATH" \
    --file "Q8_0=$Q8_0" --text "$text" --formats "$formats" "${options[@]}"
