#!/usr/bin/env bash
# Runs the fuzz targets over make_seeds.py's inputs and their corpora, two at a time.
#     tests/fuzz/run.sh [SECONDS] [TARGET...]        20 seconds each and all targets unless named
# Needs build-fuzz: cmake --preset fuzz && cmake --build --preset fuzz. What is found goes to
# build-fuzz/found/TARGET (inputs that reach new code) and build-fuzz/artifacts (inputs that crash).
# Exit status 1 when a target crashed, leaked, took over 20 seconds or 2 GB for one input.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$here/../.." && pwd)/build-fuzz
seconds=20
if [[ ${1-} =~ ^[0-9]+$ ]]; then
    seconds=$1
    shift
fi
if [ $# -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cd "$here" && printf '%s\n' fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')
fi
base=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || base=/dev/shm # some targets write a directory for every input
scratch=$(mktemp -d -p "$base") || exit 1
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
python3 "$here/make_seeds.py" "$scratch/seeds" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# Inputs that are longer than this teach nothing that shorter ones do not.
longest() {
    case $1 in
    gguf) echo 8192 ;;
    replay_record) echo 4096 ;;
    directory | quantized | chat) echo 6144 ;;
    tokenizer_json) echo 4096 ;;
    stages) echo 512 ;; # each is rendered three times
    *) echo 2048 ;;
    esac
}

value() { sed -n "s/^stat::$1: *//p" "$2"; }

run_target() {
    local target=$1 program=$build/tests/fuzz/fuzz_$1 log=$build/fuzz-$1.log edges started loaded
    [ -x "$program" ] || { echo "$target: $program is missing: build it first"; return 1; }
    rm -rf "$build/found/$target"
    mkdir -p "$build/found/$target" "$build/artifacts"
    started=$SECONDS
    if ! "$program" "$build/found/$target" "$scratch/seeds/$target" "$here/corpus/$target" \
        -dict="$here/$target.dict" -seed=1 -max_total_time="$seconds" -max_len="$(longest "$target")" \
        -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="$build/artifacts/$target-" -print_final_stats=1 -reload=0 >"$log" 2>&1; then
        echo "$target: FAILED after $((SECONDS - started)) s, the whole log: $log"
        grep -E 'ERROR|runtime error|SUMMARY|espalier|invariant' "$log" | head -n 5 | sed 's/^/    /'
        grep -o "Test unit written to .*" "$log" | sed "s#^Test unit written to #    again: $program #"
        return 1
    fi
    loaded=$(sed -n 's/.*INITED cov: \([0-9]*\).*/\1/p' "$log")
    edges=$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log")
    printf '%-16s %9d executions, %6d a second, %5d edges (%d from the corpus), %d MB\n' "$target" \
        "$(value number_of_executed_units "$log")" "$(value average_exec_per_sec "$log")" "$edges" "$loaded" \
        "$(value peak_rss_mb "$log")"
}

failures=$scratch/failures
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    { run_target "$target" || echo "$target" >>"$failures"; } &
done
wait
failed=$(sort "$failures" 2>/dev/null | tr '\n' ' ')
[ -z "$failed" ] || echo "failed: $failed"
echo "$(wc -w <<<"$failed") tests failed out of ${#targets[@]}, $seconds s each"
[ -z "$failed" ]
