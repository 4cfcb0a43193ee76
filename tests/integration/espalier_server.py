"""A real `espalier serve` as a child process, and plain ways to talk to it."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from prometheus_client.parser import text_string_to_metric_families

ESPALIER = os.environ["ESPALIER"]
# A step of it takes longer than a test's few calls, and no two of its 49152 tokens are likely the same.
SLOW_MODEL = "synthetic:smollm2-135m"
# What servers learn of this machine's steps stays with the tests.
CACHE = tempfile.TemporaryDirectory(prefix="espalier-tests-")
PATIENCE = 60  # seconds; sanitizer builds on a busy machine are slow, a hang is not a time


class Server:
    def __init__(self, *options, model="synthetic:tiny", environment=None):
        self.log = tempfile.TemporaryFile(mode="w+")
        # Freed memory that a sanitizer keeps is no memory of the server's.
        asan = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=16"
        self.process = subprocess.Popen(
            [ESPALIER, "serve", "--model", model, "--port", "0", "--threads", "1", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env={**os.environ, "ASAN_OPTIONS": asan, "XDG_CACHE_HOME": CACHE.name, **(environment or {})})
        self.port = self._wait_for_port()

    def _wait_for_port(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = re.search(r"serving (.+) on http://127\.0\.0\.1:(\d+)", self.words())
            if found:
                self.model = found.group(1)
                return int(found.group(2))
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError("the server did not start:\n" + self.words())

    def words(self):
        """What it wrote so far."""
        log = self.log.fileno()  # not seek and read: the server writes at the same offset of the file
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    # --- HTTP

    def request(self, method, path, body=None, headers=None):
        """(status, headers, body as text) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def post(self, path, value, headers=None):
        """(status, parsed JSON)."""
        body = value if isinstance(value, (bytes, str)) else json.dumps(value)
        status, _, text = self.request("POST", path, body, headers)
        return status, json.loads(text)

    def complete(self, **fields):
        status, answer = self.post("/v1/completions", fields)
        assert status == 200, answer
        return answer

    def events(self, path="/v1/completions", **fields):
        """The parsed events of a stream, [DONE] checked and left out."""
        status, headers, text = self.request("POST", path, json.dumps({**fields, "stream": True}))
        assert status == 200, text
        assert headers["Content-Type"] == "text/event-stream"
        return parse_events(text)

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, body, path="/v1/completions", close=False):
        """A socket on which a whole request was sent."""
        client = self.socket()
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        more = "Connection: close\r\n" if close else ""
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\n{more}"
                       f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return client

    def deaf(self, body):
        """A socket on which a request for a completion was sent, that takes as little of the answer as the
        kernel allows."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", self.port))
        body = json.dumps(body).encode()
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) +
                       body)
        return client

    def raw(self, data, until=b"never in an answer"):
        """Sends bytes as they are; what came back until the server closed, or until `until`. It may
        close before it has read everything."""
        with self.socket() as client:
            try:
                client.sendall(data)
            except OSError:
                pass
            try:
                return read_until(client, until)
            except ConnectionResetError:
                return b""

    # --- numbers

    def metrics(self):
        """{(name, labels as a frozenset): value}"""
        status, _, text = self.request("GET", "/metrics")
        assert status == 200
        return {(sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text) for sample in family.samples}

    def metric(self, name, **labels):
        return self.metrics()[(name, frozenset(labels.items()))]

    def wait_idle(self):
        """Nothing running or waiting, and every KV block is free or cached: none is lost."""
        def idle():
            metrics = self.metrics()
            blocks = {state: metrics[("espalier_kv_blocks", frozenset({("state", state)}))]
                      for state in ("free", "held", "cached")}
            total = next(float(dict(labels)["num_gpu_blocks"]) for name, labels in metrics
                         if name == "vllm:cache_config_info")
            return (blocks["held"] == 0 and blocks["free"] + blocks["cached"] == total
                    and all(metrics[(name, frozenset())] == 0 for name in (
                        "espalier_sequences_running", "espalier_requests_waiting",
                        "espalier_active_requests", "espalier_body_bytes", "espalier_answer_bytes")))
        wait_for(idle, "idle")

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # --- end

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """The exit status; a sanitizer's report fails the test."""
        status = self.process.wait(PATIENCE)
        words = self.words()
        assert "Sanitizer" not in words and "runtime error" not in words, words
        return status

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, f"exit status {status}\n{self.words()}"


def wait_for(holds, what):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.02)


def parse_events(text):
    assert "\r" not in text
    assert text.endswith("data: [DONE]\n\n"), text[-200:]
    lines = text.split("\n\n")
    assert lines[-1] == "" and all(line.startswith("data: ") for line in lines[:-1])
    return [json.loads(line[len("data: "):]) for line in lines[:-2]]


def read_until(client, words):
    """What came until `words` or the end."""
    data = b""
    while words not in data:
        piece = client.recv(65536)
        if not piece:
            break
        data += piece
    return data
