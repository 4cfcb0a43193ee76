#!/usr/bin/env bash
# The real server under real clients: tests/integration/run.sh BUILD_DIR
# PYTHON is an interpreter with requirements.txt installed (test.sh makes one in .venv).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -x "${1:?the build directory is missing, e.g. build}/espalier" ] || { echo "run.sh: $1/espalier is not there" >&2; exit 1; }
ESPALIER_BINARY=$PWD/${1#"$PWD/"}/espalier exec "${PYTHON:-python3}" -m pytest -q -p no:cacheprovider tests/integration
