#!/usr/bin/env bash
# What branches of one prefix cost, beside their bounds and llama-server: a PASS or FAIL for each bound.
#
#   bash bench/branches.sh [--no-llama] [--repeats N] [--tokens N] [--threads N] [--json]
#
# llama-server is built once (bench/llamacpp.sh); where that cannot be, its column says so. Exit status 1 when a
# bound is not met. branches.py says what is measured.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/llamacpp.sh"

bench_help "$@"
llama=yes options=()
for word in "$@"; do
    if [ "$word" = --no-llama ]; then llama=no; else options+=("$word"); fi
done
{
    bench_prepare
    model_fetch
    if [ $llama = yes ] && ! (llamacpp_build && llamacpp_model Q8_0); then
        say "llama-server is skipped: llama.cpp could not be built (above)"
        llama=no
    fi
} >&2
[ $llama = no ] || options+=(--llama-server "$CACHE/build/bin/llama-server" --llama-model "$Q8_0")
exec python3 "$ROOT/bench/branches.py" --espalier "$ROOT/build/espalier" --model "$MODEL_PATH" "${options[@]}"
