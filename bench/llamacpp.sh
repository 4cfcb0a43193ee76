# shellcheck shell=bash
# shellcheck disable=SC2034 # its variables are for who sources it
# llama.cpp for the comparisons; sourced behind scripts/common.sh, never run.
#
# It is built once from the sources inside the PyPI sdist llama-cpp-python 0.3.36 (Release, all of this
# CPU's instructions) into ${XDG_CACHE_HOME:-~/.cache}/espalier/llama.cpp, about 20 minutes on two cores.

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/espalier/llama.cpp
SDIST=llama-cpp-python==0.3.36
LLAMACPP_TOOLS="llama-bench llama-batched-bench llama-imatrix llama-perplexity llama-quantize llama-server"
# The default model requantized from its Q4_1 file: to 8 and 4 bits as llama.cpp does it (llamacpp_model).
Q8_0=$CACHE/${MODEL_FILE%.Q4_1.gguf}.Q8_0.gguf
Q4_0=$CACHE/${MODEL_FILE%.Q4_1.gguf}.Q4_0.gguf
Q4_K_M=$CACHE/${MODEL_FILE%.Q4_1.gguf}.Q4_K_M.gguf

# The text of all figures of quality, and the byte of it behind which calibration begins: what is scored
# (24 windows of 512 tokens, about 55,000 bytes) is never calibrated on.
EVALUATION_TEXT=$ROOT/../shared/data/text/wikitext2_valid.txt
CALIBRATION_BEGIN=500000

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

# llamacpp_model TYPE...: makes what is missing of $Q8_0, $Q4_0, $Q4_K_M.
llamacpp_model() {
    local type
    for type in "$@"; do
        llamacpp_quantize "$type" "${!type}"
    done
}

# llamacpp_quantize TYPE FILE OPTIONS...: the default model as a file of that type.
llamacpp_quantize() {
    local type=$1 file=$2
    shift 2
    [ ! -f "$file" ] || return 0
    say "making llama.cpp's $(basename "$file")"
    "$CACHE/build/bin/llama-quantize" --allow-requantize "$@" "$MODEL_PATH" "$file.part" "$type" >"$CACHE/quantize.log" 2>&1 ||
        fail "llama-quantize failed; its log is $CACHE/quantize.log"
    mv "$file.part" "$file"
}

# calibration_cut TEXT FILE: what of the text may be calibrated on.
calibration_cut() {
    [ -r "$1" ] || fail "$1 cannot be read"
    [ "$(stat -Lc %s "$1")" -gt $CALIBRATION_BEGIN ] ||
        fail "$1 is too short: calibration begins at byte $CALIBRATION_BEGIN of it"
    tail -c +$((CALIBRATION_BEGIN + 1)) "$1" >"$2"
}

# llamacpp_imatrix CALIBRATION: sets $Q4_0_IMATRIX, a Q4_0 file made with the importance matrix of the first 128
# windows of 512 tokens of that text (on one thread, see llama_perplexity in measures.py); both stay in the cache under a hash of the text.
llamacpp_imatrix() {
    local hash matrix
    hash=$(sha256sum "$1" | cut -c 1-12)
    matrix=$CACHE/imatrix.$hash.gguf
    Q4_0_IMATRIX=$CACHE/${MODEL_FILE%.Q4_1.gguf}.Q4_0.imatrix.$hash.gguf
    if [ ! -f "$matrix" ]; then
        say "computing llama.cpp's importance matrix (once, about four minutes)"
        "$CACHE/build/bin/llama-imatrix" -m "$MODEL_PATH" -f "$1" -o "$matrix.part.gguf" -c 512 --chunks 128 -t 1 >"$CACHE/imatrix.log" 2>&1 ||
            fail "llama-imatrix failed; its log is $CACHE/imatrix.log"
        mv "$matrix.part.gguf" "$matrix"
    fi
    llamacpp_quantize Q4_0 "$Q4_0_IMATRIX" --imatrix "$matrix"
}

# vsq4z_model TEXT: our own 4-bit directory of the default model, $VSQ4Z, calibrated on that text where it is absent.
VSQ4Z=$ROOT/models/smollm2-vsq4z
vsq4z_model() {
    local cut
    [ ! -f "$VSQ4Z/quantization.json" ] || return 0
    cut=$(mktemp)
    calibration_cut "$1" "$cut"
    say "making $VSQ4Z (once, a few minutes)"
    "$ROOT/build/espalier" quantize --model "$MODEL_PATH" --out "$VSQ4Z" --format vsq4z --method awq+gptq --calibrate "$cut" ||
        fail "espalier quantize could not make $VSQ4Z (above)"
    rm -f "$cut"
}
