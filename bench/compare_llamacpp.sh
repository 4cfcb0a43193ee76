#!/usr/bin/env bash
# Espalier and llama.cpp side by side on this machine: decode, prefill and perplexity, as ratios.
#
#   bash bench/compare_llamacpp.sh [--repeats N] [--text FILE] [--json]
#
# llama.cpp is built once from the sources inside the PyPI sdist llama-cpp-python 0.3.36 (Release, all of
# this CPU's instructions) into ${XDG_CACHE_HOME:-~/.cache}/espalier/llama.cpp, about 15 minutes on two cores;
# its Q8_0 file is made from the default model. The runs are interleaved; compare_llamacpp.py says how.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/espalier/llama.cpp
SDIST=llama-cpp-python==0.3.36
Q8_0=$CACHE/SmolLM2-135M-Instruct.Q8_0.gguf

llamacpp_build() {
    local tool missing=no
    for tool in llama-bench llama-batched-bench llama-perplexity llama-quantize; do
        [ -x "$CACHE/build/bin/$tool" ] || missing=yes
    done
    [ $missing = yes ] || return 0
    mkdir -p "$CACHE"
    if [ ! -f "$CACHE/src/CMakeLists.txt" ]; then
        say "fetching the sources of llama.cpp (73 MB, from the PyPI sdist $SDIST)"
        venv_make
        pip_run download --no-deps --no-binary :all: --dest "$CACHE/sdist" "$SDIST" ||
            fail "could not download $SDIST from PyPI. Check the network and run again."
        mkdir -p "$CACHE/src"
        tar -xzf "$CACHE"/sdist/llama_cpp_python-*.tar.gz -C "$CACHE/src" --strip-components=3 --wildcards '*/vendor/llama.cpp/*'
    fi
    say "building llama.cpp (once, about 15 minutes on two cores; log: $CACHE/build.log)"
    { cmake -S "$CACHE/src" -B "$CACHE/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF &&
        cmake --build "$CACHE/build" --target llama-bench llama-batched-bench llama-perplexity llama-quantize; } >"$CACHE/build.log" 2>&1 || {
        log_tail "$CACHE/build.log"
        fail "llama.cpp could not be built; the whole log is $CACHE/build.log"
    }
}

packages_install "$BUILD_PACKAGES"$'\n'"$RUN_PACKAGES"
cmake_check
model_fetch
[ -x "$ROOT/build/espalier" ] || build release -DESPALIER_TESTS=OFF
llamacpp_build
[ -f "$Q8_0" ] || {
    say "making llama.cpp's Q8_0 of the default model"
    "$CACHE/build/bin/llama-quantize" --allow-requantize "$MODEL_PATH" "$Q8_0.part" Q8_0 >"$CACHE/quantize.log" 2>&1 ||
        fail "llama-quantize failed; its log is $CACHE/quantize.log"
    mv "$Q8_0.part" "$Q8_0"
}
exec python3 "$ROOT/bench/compare_llamacpp.py" --espalier "$ROOT/build/espalier" --llama "$CACHE/build/bin" \
    --model "$MODEL_PATH" --llama-model "$Q8_0" "$@"
