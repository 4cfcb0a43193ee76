#!/usr/bin/env python3
"""What hostile connections cost everybody else: python3 bench/abuse_load.py [--model FILE] [--idle N] [--drip N]

Two rates of the same stream are measured by turns on one server: alone, and beside --idle sockets that say
nothing and --drip clients that send one byte a second of a body that never ends. Each turn opens or closes
those connections first, then times the tokens of one streamed answer (time per output token: last minus first,
over tokens minus one). Printed are the medians and the ratio of each pair of neighbours, whose median is the
figure: required is at most 1.05. Other work on the machine drowns it, so the same pairs are also given in CPU time
that the server spent for each token, and the part of a core that those connections alone take.
"""
import argparse
import json
import os
import pathlib
import resource
import socket
import statistics
import struct
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: "


def start(arguments):
    """(process, port) of a server that serves."""
    command = [str(ROOT / "build" / "espalier"), "serve", "--model", arguments.model, "--port", "0", "--max-connections",
               str(arguments.idle + arguments.drip + 100), "--body-timeout", "3600s", "--idle-timeout", "3600s"]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "serving" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(line.split("http://127.0.0.1:")[1].split()[0])
    raise SystemExit("the server did not start")


def connect(port):
    return socket.create_connection(("127.0.0.1", port))


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def time_per_token(process, port, tokens):
    """(milliseconds between two tokens of one answer, the server's CPU milliseconds for each)"""
    before = cpu_seconds(process)
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "temperature": 0,
                       "stream": True}).encode()
    with connect(port) as client:
        client.sendall(HEAD + b"%d\r\nConnection: close\r\n\r\n" % len(body) + body)
        count, first, last, data = 0, 0, 0, b""
        while piece := client.recv(65536):
            events = piece.count(b"data: {")
            if events:
                last = time.perf_counter()
                first = first or last
                count += events
            data = (data + piece)[-64:]
    assert b"[DONE]" in data and count >= tokens, "the answer is not whole"
    return (last - first) * 1e3 / (count - 1), (cpu_seconds(process) - before) * 1e3 / count


class Crowd:
    """Idle sockets and dripping ones, with a thread that sends the drops."""

    def __init__(self, port, idle, drip):
        self.idle = [connect(port) for _ in range(idle)]
        self.drip = [connect(port) for _ in range(drip)]
        for client in self.drip:
            client.sendall(HEAD + b"1000000\r\n\r\n{")
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.send)
        self.thread.start()
        time.sleep(1.1)  # every dripping client has sent a byte

    def send(self):
        while self.drip and not self.over.wait(1 / len(self.drip)):  # one byte a second each
            client = self.drip.pop(0)
            client.sendall(b" ")
            self.drip.append(client)

    def close(self):
        self.over.set()
        self.thread.join()
        for client in self.idle + self.drip:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        time.sleep(0.5)


def core_share(process, seconds):
    """CPU time over wall time of the server."""
    before, begin = cpu_seconds(process), time.perf_counter()
    time.sleep(seconds)
    return (cpu_seconds(process) - before) / (time.perf_counter() - begin)


def report(what, alone, beside):
    ratios = sorted(b / a for a, b in zip(alone, beside))
    print(f"{what}: alone {statistics.median(alone):.3f} ms, beside them {statistics.median(beside):.3f} ms; ratio of "
          f"pairs: median {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--drip", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    process, port = start(arguments)
    try:
        time_per_token(process, port, arguments.tokens)  # warm
        alone, beside = [], []
        for pair in range(arguments.pairs):
            for crowded in ((False, True), (True, False))[pair % 2]:
                crowd = Crowd(port, arguments.idle, arguments.drip) if crowded else None
                (beside if crowded else alone).append(time_per_token(process, port, arguments.tokens))
                if crowd:
                    crowd.close()
        crowd = Crowd(port, arguments.idle, arguments.drip)
        share = core_share(process, 10)
        crowd.close()
        print(f"{arguments.idle} idle and {arguments.drip} dripping connections, {arguments.pairs} pairs; alone they take "
              f"{share:.2%} of a core")
        for what, which in (("TPOT", 0), ("CPU time of a token", 1)):
            report(what, [turn[which] for turn in alone], [turn[which] for turn in beside])
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
