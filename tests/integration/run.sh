#!/usr/bin/env bash
# The real server under real clients and raw sockets: tests/integration/run.sh [BUILD_DIR] [PYTEST ARGUMENTS]
# Needs BUILD_DIR/espalier and the packages of requirements.txt in .venv (test.sh makes it), or in the
# interpreter that $PYTHON names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${1:-build}
shift || true
[[ $build = /* ]] || build=$root/$build
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$build/espalier" ] || { echo "$build/espalier is missing: build it first" >&2; exit 1; }
"$python" -c 'import openai, prometheus_client, pytest' 2>/dev/null || {
    echo "$python lacks packages: $python -m pip install -r $here/requirements.txt" >&2
    exit 1
}
export ESPALIER=$build/espalier ESPALIER_ROOT=$root
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
cd "$here"
exec "$python" -m pytest -q -p no:cacheprovider "$@" .
