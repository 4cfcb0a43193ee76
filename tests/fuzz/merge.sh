#!/usr/bin/env bash
# Makes tests/fuzz/corpus anew: of what is there and what run.sh found, the inputs that reach code which
# make_seeds.py's do not, the smallest first and at most 64 KB a target.
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
    corpus=$here/corpus/$target
    mkdir -p "$work/new" "$corpus" "$build/found/$target"
    cp -r "$work/seeds/$target" "$work/new/$target"
    # Edges alone, not how often each is taken: a corpus of hundreds of files, not of thousands.
    "$build/tests/fuzz/fuzz_$target" -merge=1 -use_counters=0 -max_len=16384 -rss_limit_mb=2048 \
        "$work/new/$target" "$corpus" "$build/found/$target" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; exit 1; }
    for seed in "$work/seeds/$target"/*; do rm "$work/new/$target/$(basename "$seed")"; done
    rm -rf "$corpus"
    mkdir "$corpus"
    find "$work/new/$target" -type f -printf '%s %p\n' | sort -n |
        awk '(total += $1) <= 65536 {print $2}' | xargs -r cp -t "$corpus"
    printf '%-16s %4d inputs, %7d bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" \
        "$(find "$corpus" -type f -printf '%s\n' | awk '{s += $1} END {print s + 0}')"
done
