# shellcheck shell=bash
# llama.cpp for the comparisons; sourced behind scripts/common.sh, never run.
#
# It is built once from the sources inside the PyPI sdist llama-cpp-python 0.3.36 (Release, all of this
# CPU's instructions) into ${XDG_CACHE_HOME:-~/.cache}/espalier/llama.cpp, about 20 minutes on two cores.

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/espalier/llama.cpp
SDIST=llama-cpp-python==0.3.36
LLAMACPP_TOOLS="llama-bench llama-batched-bench llama-perplexity llama-quantize llama-server"
Q8_0=$CACHE/SmolLM2-135M-Instruct.Q8_0.gguf

# llamacpp_build: its programs in $CACHE/build/bin.
llamacpp_build() {
    local tool missing=no
    for tool in $LLAMACPP_TOOLS; do
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
    say "building llama.cpp (once, about 20 minutes on two cores; log: $CACHE/build.log)"
    # shellcheck disable=SC2086 # a list of names
    { cmake -S "$CACHE/src" -B "$CACHE/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON \
        -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF &&
        cmake --build "$CACHE/build" --target $LLAMACPP_TOOLS; } >"$CACHE/build.log" 2>&1 || {
        log_tail "$CACHE/build.log"
        fail "llama.cpp could not be built; the whole log is $CACHE/build.log"
    }
}

# llamacpp_model: the default model as llama.cpp runs it, $Q8_0.
llamacpp_model() {
    [ ! -f "$Q8_0" ] || return 0
    say "making llama.cpp's Q8_0 of the default model"
    "$CACHE/build/bin/llama-quantize" --allow-requantize "$MODEL_PATH" "$Q8_0.part" Q8_0 >"$CACHE/quantize.log" 2>&1 ||
        fail "llama-quantize failed; its log is $CACHE/quantize.log"
    mv "$Q8_0.part" "$Q8_0"
}
