#!/usr/bin/env bash
# Real clients, unmodified, against the real server. Each lives in a virtual environment of its own in
# .venvs, made from requirements/ the first time and reused; nothing is fetched afterwards.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../scripts/common.sh"

# CLIENT ENVIRONMENT: test_CLIENT.py runs in .venvs/ENVIRONMENT.
QUICK='
openai        quick
litellm       quick
langchain     quick
llm           quick
prometheus    quick
schemathesis  quick'
SLOW='
guidellm      guidellm
aiperf        aiperf
llama_benchy  llama-benchy
lm_eval       lm-eval'

usage() {
    cat <<'TEXT'
Example: tests/clients/run.sh openai guidellm

tests/clients/run.sh [--quick] [--build DIR] [CLIENT...]
Without a name every client runs; --quick runs those that test.sh runs (two to three minutes).
The environment of guidellm takes 6 GB (it brings torch with CUDA), the others 0.4 to 1.2 GB.
TEXT
}

build=build quick=no names=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    --quick) quick=yes ;;
    --build) build=${2:?--build needs a directory}; shift ;;
    -*) printf 'run.sh: unknown option %s\n' "$1" >&2; exit 2 ;;
    *) names+=("$1") ;;
    esac
    shift
done
[[ $build = /* ]] || build=$ROOT/$build
[ -x "$build/espalier" ] || fail "$build/espalier is missing: build it first"
logs=$build/test-logs
mkdir -p "$logs" || fail "cannot create $logs"

# environment NAME: makes .venvs/NAME what requirements/NAME.txt says.
environment() (
    VENV=$here/.venvs/$1
    wanted=$here/requirements/$1.txt
    cmp -s "$wanted" "$VENV/installed.txt" && exit 0
    say "installing the clients of requirements/$1.txt"
    rm -rf "$VENV"
    mkdir -p "$here/.venvs"
    venv_make
    pip_run install --no-compile -r "$wanted" || fail "pip could not install $wanted. Check the network and run again."
    cp "$wanted" "$VENV/installed.txt"
)

# counts LOG STATUS: tests passed and failed by pytest's closing line; a run without one has failed.
counts() {
    local line passed failed
    line=$(grep -E '^[0-9]+ (passed|failed|error).* in [0-9.]+s' "$1" | tail -n 1)
    passed=$(grep -oE '[0-9]+ passed' <<<"$line" | cut -d ' ' -f 1)
    failed=$(grep -oE '[0-9]+ (failed|errors?)' <<<"$line" | awk '{n += $1} END {print n + 0}')
    [ "$2" = 0 ] || [ "$failed" != 0 ] || failed=1
    [ "${passed:-0}" != 0 ] || [ "$failed" != 0 ] || failed=1
    printf '%d %d\n' "${passed:-0}" "$failed"
}

passed_all=0 failed_all=0
# run_client CLIENT ENVIRONMENT
run_client() {
    local log=$logs/client-$1.log started=$SECONDS status=0 passed failed
    if environment "$2" >"$log" 2>&1; then
        timeout 900 "$here/.venvs/$2/bin/python" -m pytest -q -p no:cacheprovider --disable-warnings \
            "$here/test_$1.py" >>"$log" 2>&1
        status=$?
    else
        status=1
    fi
    read -r passed failed < <(counts "$log" "$status")
    passed_all=$((passed_all + passed)) failed_all=$((failed_all + failed))
    printf '%-14s %3d passed, %d failed  (%d s)\n' "$1" "$passed" "$failed" $((SECONDS - started))
    [ "$failed" = 0 ] || { printf '    the whole log: %s\n' "$log"; log_tail "$log" 40; }
}

model_fetch
export ESPALIER=$build/espalier ESPALIER_ROOT=$ROOT
# Nothing is asked of the network: litellm would fetch prices each time it is imported.
export LITELLM_LOCAL_MODEL_COST_MAP=True DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1
clients=$QUICK
[ $quick = yes ] || clients+=$SLOW
for name in "${names[@]}"; do
    grep -q "^$name " <<<"$QUICK$SLOW" || { printf 'run.sh: no client %s\n' "$name" >&2; exit 2; }
done
cd "$here" || exit 1
while read -r name environment; do
    [ -n "$name" ] || continue
    [ ${#names[@]} = 0 ] || [[ " ${names[*]} " = *" $name "* ]] || continue
    run_client "$name" "$environment" </dev/null
done <<<"$clients"

echo
echo "$passed_all passed, $failed_all failed"
[ "$failed_all" = 0 ] && [ "$passed_all" -gt 0 ]
