#!/usr/bin/env bash
# Proves the engine right, from a fresh clone on: builds release, asan and tsan, and runs every test.
# The last line counts them; the exit status is 0 only when something ran and nothing failed.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.sh"
cd "$ROOT" || exit 1

case ${1-} in
-h | --help)
    cat <<'TEXT'
Example: bash test.sh

Installs what is missing (as root or through sudo), builds with and without sanitizers, runs the unit
tests, the golden data, fuzz targets, fault ladders, the real server under hostile and real clients,
and every command once.
About twenty-seven minutes on two cores. ../shared/data is used where it exists and never needed.
TEXT
    exit 0
    ;;
?*)
    printf 'test.sh: unknown option %s\n' "$1" >&2
    exit 2
    ;;
esac

PASSED=0
FAILED=0
LOGS=$ROOT/build/test-logs
GENERATED=$ROOT/build/generated

# stage NAME COMMAND...: one line on success, the end of its log on failure. A log with ctest's or
# pytest's closing line counts their tests, any other stage counts as one. What a log calls SKIPPED is said.
stage() {
    local name=$1 log started passed failed status
    shift
    log=$LOGS/${name//[^a-z0-9]/-}.log
    started=$SECONDS
    "$@" >"$log" 2>&1
    status=$?
    read -r passed failed < <(count_tests "$log" "$status")
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    printf '%-28s %4d passed, %d failed  (%d s)\n' "$name" "$passed" "$failed" $((SECONDS - started))
    grep '^SKIPPED' "$log" | sed 's/^/    /'
    [ "$failed" = 0 ] || { printf '    the whole log: %s\n' "$log"; ctest_failures "$log" | head -n 60; log_tail "$log" 40; }
}

# What failed tests said: ctest puts it between the test's own line and the next one's.
ctest_failures() {
    awk '/^ *Start +[0-9]+:|Test +#[0-9]+:|tests passed,/ { failed = 0 } /Test +#[0-9]+:.*\*\*\*/ { failed = 1 } failed { print "    " $0 }' "$1"
}

count_tests() {
    python3 - "$1" "$2" <<'PYTHON'
import re, sys
text, status = open(sys.argv[1], errors="replace").read(), int(sys.argv[2])
passed = failed = 0
for bad, total in re.findall(r"(\d+) tests? failed out of (\d+)", text):
    passed, failed = passed + int(total) - int(bad), failed + int(bad)
for line in re.findall(r"^(?:=+ )?(\d+ [a-z]+.* in [0-9.]+s\b.*)$", text, re.M):
    passed += sum(int(n) for n in re.findall(r"(\d+) passed", line))
    failed += sum(int(n) for n in re.findall(r"(\d+) (?:failed|error)", line))
for good, bad in re.findall(r"^(\d+) passed, (\d+) failed$", text, re.M):
    passed, failed = passed + int(good), failed + int(bad)
skipped = re.search(r"^SKIPPED", text, re.M) and status == 0
if passed + failed == 0 and not skipped:
    passed, failed = (1, 0) if status == 0 else (0, 1)
elif status != 0 and failed == 0:
    failed = 1
print(passed, failed)
PYTHON
}

python_ready() {
    venv_make
    local wanted
    wanted=$(grep -hv "^#" tests/requirements.txt tests/integration/requirements.txt 2>/dev/null)
    [ "$(cat "$VENV/installed.txt" 2>/dev/null)" = "$wanted" ] && return 0
    # shellcheck disable=SC2086 # a list of packages
    pip_run install $wanted || fail "pip could not install: ${wanted//$'\n'/ }. Check the network and run again."
    printf '%s\n' "$wanted" >"$VENV/installed.txt"
}

# Not by git: the tree may belong to another user, or be an archive. The formatter is the pinned one,
# because versions disagree.
sources() { find . \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -not -path './build*' -not -path '*/.*'; }

format_check() { sources | xargs "$VENV/bin/clang-format" --dry-run -Werror; }

commands_check() {
    local model=synthetic:tiny quantized
    quantized=$(mktemp -d) || return 1
    build/espalier --version && build/espalier inspect --model $model --json &&
        echo text | build/espalier tokenize --model $model --json &&
        build/espalier generate --model $model --prompt text --max-tokens 4 --json &&
        build/espalier perplexity --model $model --text README.md --context 64 --windows 2 --json &&
        build/espalier perplexity --model $model --weights vsq4:16,4 --text README.md --context 64 --windows 2 --json &&
        build/espalier quantize --model $model --out "$quantized/model" --calibrate docs/architecture.md --json &&
        build/espalier generate --model "$quantized/model" --prompt text --max-tokens 4 --json &&
        build/espalier bench --model "$quantized/model" --rows 1,8 --prompt 32 --depth 16 --steps 2 --repeats 1 --stages --json &&
        build/espalier bench --model $model --rows 1,2 --prompt 32 --depth 16 --steps 2 --repeats 1 --json &&
        build/espalier bench --roof --json &&
        build/espalier bench --forest --model $model --depth 300 --steps 2 --repeats 1 --json &&
        build/espalier bench --tree --blocks 1000 --json &&
        build/espalier bench --fork --repeats 1 --json &&
        build/espalier bench --planning --json &&
        build/espalier trace generate --preset W5 --rate 1 --duration 60s |
        build/espalier simulate --trace - --policy off,eager --json &&
        build/espalier profile --model $model --record "$quantized/profile.json" --seconds 1 --json &&
        build/espalier simulate --preset W5 --rate 1 --profile "$quantized/profile.json" --duration 60s --json
    local status=$?
    rm -rf "$quantized"
    return $status
}

default_model_check() {
    build/espalier generate --model "$MODEL_PATH" --chat --prompt "Name three trees." --max-tokens 40
}

install_check() {
    local prefix
    prefix=$(mktemp -d) || return 1
    cmake --install build --prefix "$prefix" && "$prefix/bin/espalier" --version
    local status=$?
    rm -rf "$prefix"
    return $status
}

packages_install "$BUILD_PACKAGES"$'\n'"$RUN_PACKAGES"$'\n'"$TEST_PACKAGES"
cmake_check
python_ready
model_fetch
mkdir -p "$LOGS"
export PYTHON=$VENV/bin/python ESPALIER_TEST_MODEL=$MODEL_PATH ESPALIER_TEST_GENERATED=$GENERATED

stage "golden weights" "$PYTHON" tests/make_golden_data.py "$GENERATED"
stage "models by gguf" "$PYTHON" tests/make_gguf_models.py "$GENERATED"
stage "block types by gguf" "$PYTHON" tests/make_dequant_data.py --check
stage "format" format_check
say "building release, asan, tsan and fuzz"
build release -DESPALIER_TESTS=ON
build asan -DESPALIER_TESTS=ON
build tsan -DESPALIER_TESTS=ON
build fuzz
stage "unit tests" ctest --test-dir build -j 2 --output-on-failure
stage "chats against Jinja" "$PYTHON" tests/chat_jinja.py build
stage "tokenizers of Hugging Face" tests/tokenizers/run.sh build
stage "commands" commands_check
stage "default model" default_model_check
stage "goodput, quick" "$PYTHON" tests/goodput_quick.py
stage "installed copy" install_check
stage "cuda sources" "$PYTHON" tests/cuda/check_sources.py
stage "ptx translator" "$PYTHON" tests/cuda/test_ptx.py build
stage "cuda kernels as ptx" "$PYTHON" tests/cuda/run_ptx.py build
stage "cuda faults" "$PYTHON" tests/cuda/run_faults.py build
stage "unit tests, asan and ubsan" ctest --test-dir build-asan -j 2 --output-on-failure
stage "unit tests, tsan" ctest --test-dir build-tsan -j 2 -L 'base|cuda|kernels|quant|scheduler|server' --output-on-failure
stage "forward pass, tsan" ctest --test-dir build-tsan -R test_invariance --output-on-failure
stage "fuzz, 20 s each" tests/fuzz/run.sh 20
stage "faults" tests/faults/run.sh build --quick
stage "faults under asan" tests/faults/run.sh build-asan --quick --only '^(completion|chat stream)$|shutdown$|load gguf|load quantized|quantize by'
stage "server" tests/integration/run.sh build -n 2 --dist loadfile
stage "real clients" tests/clients/run.sh --quick
# Pages are typed once, above; files cut off anywhere have been through the readers in the unit tests under ASan.
stage "server under asan" tests/integration/run.sh build-asan -n 2 --dist loadfile --ignore test_docs.py -k 'not cut_off_anywhere'
stage "server under tsan" setarch -R tests/integration/run.sh build-tsan -k same_bytes

echo
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ]
