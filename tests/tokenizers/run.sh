#!/usr/bin/env bash
# espalier tokenize against PyPI's tokenizers: tests/tokenizers/run.sh [BUILD_DIR] [PYTEST ARGUMENTS]
# Needs BUILD_DIR/espalier and the packages of tests/requirements.txt in .venv (test.sh makes it), or in the
# interpreter that $PYTHON names. ESPALIER_TEST_STRINGS=3000 compares more strings for each tokenizer.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${1:-build}
shift || true
[[ $build = /* ]] || build=$root/$build
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$build/espalier" ] || { echo "$build/espalier is missing: build it first" >&2; exit 1; }
"$python" -c 'import gguf, pytest, tokenizers' 2>/dev/null || {
    echo "$python lacks packages: $python -m pip install -r $root/tests/requirements.txt pytest" >&2
    exit 1
}
export ESPALIER=$build/espalier
cd "$here"
exec "$python" -m pytest -q -p no:cacheprovider "$@" .
