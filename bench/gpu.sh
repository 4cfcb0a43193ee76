#!/usr/bin/env bash
# Times the CUDA kernels on a real GPU: GB/s, TOP/s and percent of the device's peak, once their
# results equal the C references byte for byte. Without a GPU, or without nvcc, nothing is measured:
# one line says so and the exit status is 0.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
cd "$ROOT" || exit 1

case ${1-} in
-h | --help)
    printf 'Example: bash bench/gpu.sh\n\nBuilds build/gpu-bench with nvcc and runs it on the first GPU.\n'
    exit 0
    ;;
?*)
    printf 'gpu.sh: unknown option %s\n' "$1" >&2
    exit 2
    ;;
esac

NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [ ! -x "$NVCC" ]; then
    echo "no nvcc here: nothing was measured"
    exit 0
fi

# cudart_static and never libcuda: without a driver the program starts all the same and says so.
ARCHITECTURES=()
for arch in 80 90 100 120; do ARCHITECTURES+=(-gencode "arch=compute_$arch,code=sm_$arch"); done
ARCHITECTURES+=(-gencode arch=compute_80,code=compute_80)
SOURCES="bench/cuda/gpu.c bench/cuda/device.c tests/cuda/kernel_cases.c kernels/cuda/pack.c kernels/cuda/reference.c
    base/clock.c base/rng.c"

mkdir -p build
# shellcheck disable=SC2086 # a list of files
"$NVCC" -O3 -I. -cudart static "${ARCHITECTURES[@]}" -Xcompiler -Wall,-ffp-contract=off,-D_GNU_SOURCE \
    $SOURCES kernels/cuda/*.cu -o build/gpu-bench -lm >build/gpu-bench.log 2>&1 || {
    log_tail build/gpu-bench.log
    fail "nvcc could not build build/gpu-bench; the whole log is build/gpu-bench.log"
}
exec build/gpu-bench
