#!/usr/bin/env bash
# The fault ladders: tests/faults/run.sh [BUILD_DIR] [--quick] [--only PATTERN] [--kind PATTERN]
#
# What happens when the system says no? In the real server, loading, answering requests, streaming and shutting
# down, and in `espalier quantize`, the n-th malloc, mmap, file, socket, epoll, thread or writing call fails, for every n: fault_inject.c, loaded by
# LD_PRELOAD, counts from the moment at which ladder.py arms it. A ladder ends by itself, with the first n that the
# phase no longer reaches. "memory, from then on" fails every malloc until somebody unmaps memory. At the end 12 large
# requests at once meet a limit of the address space (RLIMIT_AS).
#
# After each step (faulty_server.py, ladder.py):
#   loading      it serves and answers as ever, or it ended with status 1 and one line that says why (also a quantized
#                directory, and the cache of --weights vsq4z)
#   quantize     every byte as without a fault, or status 1, one line, and nothing there that was not there before
#   a request    the right answer with all its headers, or 500/503 as in docs/api.md, or a closed connection
#   a stream     what came is the beginning of the right one; it ends whole, or with an error event and [DONE], or
#                breaks off
#   then         the process lives, nothing runs or waits, free + held + cached = total with none held, no connection
#                and no descriptor is lost, an idle connection of before still answers, the same prompt gets the same
#                answer
#   the end      SIGTERM: status 0, and no word of a sanitizer
#
# Every n (more than 50,000 steps) takes about a quarter of an hour on two idle cores; --quick, which test.sh runs, leaves steps out where n is large. BUILD_DIR may be a build with AddressSanitizer.
# The last line counts the steps. Needs BUILD_DIR/espalier, a C compiler and Python without packages ($PYTHON).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=build
[ $# = 0 ] || [[ $1 = -* ]] || { build=$1; shift; }
[[ $build = /* ]] || build=$root/$build
[ -x "$build/espalier" ] || { echo "$build/espalier is missing: build it first" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O1 -g -fno-omit-frame-pointer -D_GNU_SOURCE -Wall -Wextra -Werror -shared -fPIC "$here/fault_inject.c" \
    -o "$work/fault_inject.so"
# The interposer comes before the sanitizer's malloc, on purpose.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:detect_stack_use_after_return=1}:verify_asan_link_order=0
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" "$here/ladder.py" "$build/espalier" "$work" "${@}"
