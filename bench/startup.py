#!/usr/bin/env python3
"""Server start to the first token of a 10-token prompt, and resident memory after it.

    python3 bench/startup.py [--model PATH] [--binary build/espalier] [--repeats 5] [--json] [-- SERVE OPTIONS]

The clock starts before the process does; the request is sent again until the server listens. Memory is VmRSS after
the answer, beside what is allowed: weights in use + KV pool + 150 MB. Standard library only.
"""
import argparse, http.client, json, os, signal, socket, subprocess, sys, time

PROMPT = list(range(1000, 1010))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def first_token(port, started, limit=60.0):
    body = json.dumps({"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "stream": True})
    while time.monotonic() - started < limit:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status == 200 and answer.readline().startswith(b"data: {"):
                return time.monotonic() - started
            answer.read()
        except (ConnectionError, http.client.HTTPException, OSError):
            pass
        time.sleep(0.002)
    raise SystemExit(f"no token after {limit:.0f} s")


def resident_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS line")


def one_run(binary, model, options):
    port = free_port()
    started = time.monotonic()
    server = subprocess.Popen([binary, "serve", "--model", model, "--port", str(port), *options],
                              stderr=subprocess.DEVNULL)
    try:
        seconds = first_token(port, started)
        return seconds, resident_bytes(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--binary", default="build/espalier")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("options", nargs="*", help="passed to espalier serve")
    args = parser.parse_args()
    for path in (args.binary, args.model):
        if not os.path.exists(path) and not path.startswith("synthetic:"):
            sys.exit(f"{path} is not there: bash quickstart.sh --no-serve makes it")
    runs = [one_run(args.binary, args.model, args.options) for _ in range(args.repeats)]
    times = sorted(seconds for seconds, _ in runs)
    memory = max(resident for _, resident in runs)
    result = {"command": "startup", "first_token_s": {"min": times[0], "median": times[len(times) // 2], "max": times[-1]},
              "resident_bytes": memory}
    if args.json:
        print(json.dumps(result))
    else:
        print(f"start to first token: median {times[len(times) // 2]:.2f} s, best {times[0]:.2f}, worst {times[-1]:.2f}; "
              f"resident {memory / 1e6:.0f} MB")


main()
