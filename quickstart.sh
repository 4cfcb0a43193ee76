#!/usr/bin/env bash
# From a fresh clone to a streamed answer: installs packages, builds, fetches the default model, starts
# the server and asks it one question. Safe to run twice; offline once done.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/common.sh"

QUESTION="Name three trees that grow well along a wall, and say why in one sentence each."
BUILD=$ROOT/build
PID_FILE=$BUILD/server.pid
LOG=$BUILD/server.log

usage() {
    cat <<'TEXT'
Example: bash quickstart.sh --port 8001

Installs what is missing (as root or through sudo), builds build/espalier, fetches the default model
into models/, starts the server in the background and streams one answer.

  --no-serve   stop after the build and the model
  --port N     port of the server on 127.0.0.1 (default 8000)
  --help       this text
TEXT
}

# server_pid: the process of an earlier quickstart, if it still runs and is this tree's server.
server_pid() {
    local pid
    pid=$(cat "$PID_FILE" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
    [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$BUILD/espalier"* ]] || return 1
    printf '%s' "$pid"
}

server_stop() {
    local pid tenths
    pid=$(server_pid) || return 0
    say "stopping the server of an earlier quickstart (process $pid)"
    kill "$pid" 2>/dev/null || true
    for ((tenths = 0; tenths < 200; tenths++)); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    fail "process $pid does not stop. Stop it yourself (kill -9 $pid) and run again."
}

port_is_busy() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }

port_check() {
    ! port_is_busy || fail "port $PORT is taken by another program. Stop it, or choose another port: bash quickstart.sh --port $((PORT + 1))"
}

# server_start: in a session of its own, so that it outlives this terminal; returns when it is healthy.
server_start() {
    local pid tenths
    setsid "$BUILD/espalier" serve --model "$MODEL_PATH" --port "$PORT" >"$LOG" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$PID_FILE"
    for ((tenths = 0; tenths < 600; tenths++)); do
        if curl --noproxy '*' -sf -o /dev/null "http://127.0.0.1:$PORT/health"; then
            disown "$pid"
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    log_tail "$LOG" 8
    if kill "$pid" 2>/dev/null; then
        fail "the server did not answer within 60 s; its log is $LOG"
    fi
    fail "the server did not start; its log is $LOG"
}

ask() {
    local request sent
    request=$(python3 -c 'import json, sys; print(json.dumps({
        "model": sys.argv[1], "messages": [{"role": "user", "content": sys.argv[2]}],
        "max_tokens": 120, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}))' "$1" "$QUESTION")
    sent=$(date +%s.%N)
    curl --noproxy '*' -sN "http://127.0.0.1:$PORT/v1/chat/completions" -H 'content-type: application/json' -d "$request" |
        python3 "$ROOT/scripts/print_stream.py" "$sent"
}

SERVE=yes
PORT=8000
while [ $# -gt 0 ]; do
    case $1 in
    --no-serve) SERVE=no ;;
    --port=*) PORT=${1#--port=} ;;
    --port)
        PORT=${2-}
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        printf '\nquickstart.sh: unknown option %s\n' "$1" >&2
        exit 2
        ;;
    esac
    shift || break
done
if ! [[ $PORT =~ ^[0-9]{1,5}$ ]] || ((10#$PORT < 1 || 10#$PORT > 65535)); then
    printf 'quickstart.sh: --port is "%s", allowed is a number from 1 to 65535\n' "$PORT" >&2
    exit 2
fi

if [ $SERVE = yes ]; then
    server_pid >/dev/null || port_check # said before the long work
fi

packages_install "$BUILD_PACKAGES"$'\n'"$RUN_PACKAGES"
cmake_check
say "building build/espalier"
build release -DESPALIER_TESTS=OFF
model_fetch
say "ready: build/espalier and models/$MODEL_FILE"
[ $SERVE = yes ] || exit 0

server_stop
port_check
say "starting the server on port $PORT"
server_start
NAME=$(curl --noproxy '*' -sf "http://127.0.0.1:$PORT/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])') ||
    fail "the server answers /health but not /v1/models; its log is $LOG"

say "asking: $QUESTION"
echo
ask "$NAME" || fail "the question was not answered; the server's log is $LOG"
echo
cat <<TEXT
The server runs on (log: $LOG):
  API      http://127.0.0.1:$PORT/v1   (any OpenAI client; model "$NAME", any key)
  metrics  http://127.0.0.1:$PORT/metrics
  stop     kill \$(cat $PID_FILE)
TEXT
