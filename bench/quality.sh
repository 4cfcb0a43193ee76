#!/usr/bin/env bash
# What 8 and 4 bits cost the default model, ours and llama.cpp's from the same file, in one table with bytes.
#
#   bash bench/quality.sh [--axes] [--no-llama] [--windows N] [--threads N] [--text FILE] [--json]
#
# Scored on the first 24 windows of 512 tokens of the text, calibrated only on what lies behind byte 500,000 of it.
# --axes: instead, the axes of the VS-Quant paper (vector length, width of its scale). quality.py says what is measured.
# Exit status 1 when a bound is not met. About 20 minutes on two cores; the first run also builds llama.cpp.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/llamacpp.sh"

bench_help "$@"
text=$EVALUATION_TEXT llama=yes options=()
while [ $# -gt 0 ]; do
    case $1 in
        --text)
            [ $# -gt 1 ] || fail "--text needs a file"
            text=$2 && shift
            ;;
        --axes) llama=no && options+=("$1") ;;
        --no-llama) llama=no ;;
        *) options+=("$1") ;;
    esac
    shift
done
if [ ! -f "$text" ]; then
    say "quality skipped: $text is not there (--text FILE)"
    exit 0
fi
{
    bench_prepare
    model_fetch
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    calibration_cut "$text" "$work/calibration.txt"
    if [ $llama = yes ]; then
        llamacpp_build
        llamacpp_model Q8_0 Q4_0 Q4_K_M
        llamacpp_imatrix "$work/calibration.txt"
        options+=(--llama "$CACHE/build/bin" --file "Q4_1 (the source)=$MODEL_PATH" --file "Q8_0=$Q8_0" --file "Q4_K_M=$Q4_K_M"
            --file "Q4_0=$Q4_0" --file "Q4_0, importance matrix=$Q4_0_IMATRIX")
    fi
} >&2
python3 "$ROOT/bench/quality.py" --espalier "$ROOT/build/espalier" --model "$MODEL_PATH" --text "$text" \
    --calibration "$work/calibration.txt" --work "$work" "${options[@]}"
