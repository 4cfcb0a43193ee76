#!/usr/bin/env bash
# The simulator beside reality: a profile of the default model recorded on this machine, then one trace replayed against
# the real server and simulated, for policies off and eager. A PASS or FAIL for each bound.
#
#   bash bench/reality.sh [--rate R] [--requests N] [--policies LIST] [--seconds S] [--repeats N] [--json]
#
# Wants a machine that does nothing else. Exit status 1 when a bound is not met. About 6 minutes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

case ${1-} in
-h | --help)
    sed -n 's/^#\( \|$\)//p; /^set /q' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
{
    packages_install "$BUILD_PACKAGES"$'\n'"$RUN_PACKAGES"
    cmake_check
    model_fetch
    [ -x "$ROOT/build/espalier" ] || build release -DESPALIER_TESTS=OFF
} >&2
exec python3 "$ROOT/bench/reality.py" --espalier "$ROOT/build/espalier" --model "$MODEL_PATH" "$@"
