#!/usr/bin/env bash
# Makes tests/fuzz/corpus anew: of what is there, of make_seeds.py's inputs and of what run.sh found, the
# smallest set that reaches the same code.
#     tests/fuzz/merge.sh [TARGET...]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$here/../.." && pwd)/build-fuzz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
python3 "$here/make_seeds.py" "$work/seeds"
if [ $# -eq 0 ]; then
    mapfile -t all < <(cd "$here" && printf '%s\n' fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')
    set -- "${all[@]}"
fi
for target in "$@"; do
    mkdir -p "$work/new/$target" "$here/corpus/$target" "$build/found/$target"
    # Edges alone, not how often each is taken: a corpus of hundreds of files, not of thousands.
    "$build/tests/fuzz/fuzz_$target" -merge=1 -use_counters=0 -max_len=16384 -rss_limit_mb=2048 \
        "$work/new/$target" "$work/seeds/$target" "$here/corpus/$target" "$build/found/$target" \
        >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    rm -rf "$here/corpus/$target"
    mv "$work/new/$target" "$here/corpus/$target"
    printf '%-16s %4d inputs, %7d bytes\n' "$target" "$(find "$here/corpus/$target" -type f | wc -l)" \
        "$(find "$here/corpus/$target" -type f -printf '%s\n' | awk '{s += $1} END {print s + 0}')"
done
