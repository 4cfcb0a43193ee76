#!/usr/bin/env bash
# Espalier and llama.cpp side by side on this machine: decode, prefill and perplexity, as ratios.
#
#   bash bench/compare_llamacpp.sh [--repeats N] [--text FILE] [--json]
#
# llama.cpp is built once (bench/llamacpp.sh says how); its Q8_0 file is made from the default model. The
# runs are interleaved; compare_llamacpp.py says how.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/llamacpp.sh"

packages_install "$BUILD_PACKAGES"$'\n'"$RUN_PACKAGES"
cmake_check
model_fetch
[ -x "$ROOT/build/espalier" ] || build release -DESPALIER_TESTS=OFF
llamacpp_build
llamacpp_model
exec python3 "$ROOT/bench/compare_llamacpp.py" --espalier "$ROOT/build/espalier" --llama "$CACHE/build/bin" \
    --model "$MODEL_PATH" --llama-model "$Q8_0" "$@"
