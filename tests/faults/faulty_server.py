"""A real `espalier serve` under fault_inject.so, and what must hold after every fault."""
import contextlib
import http.client
import itertools
import json
import mmap
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time

PATIENCE = 20  # seconds until something that should have happened counts as a hang
CLASSES = {"memory": 1, "map": 2, "file": 3, "socket": 4, "poll": 5, "thread": 6, "write": 7}


SALTS = itertools.count()


class Broken(Exception):
    """A promise that did not hold."""


class Faults:
    """The page shared with fault_inject.c (struct control)."""

    def __init__(self, library):
        self.file = tempfile.NamedTemporaryFile()
        self.file.write(bytes(4096))
        self.file.flush()
        self.page = mmap.mmap(self.file.fileno(), 4096)
        self.environment = {"LD_PRELOAD": library, "FAULT_CONTROL": self.file.name}

    def arm(self, kind, n, burst=1):
        self.page[:4] = struct.pack("<i", 0)
        self.page[4:272] = struct.pack("<iqqq", 0, n, burst, 0).ljust(268, b"\0")
        self.page[:4] = struct.pack("<i", CLASSES[kind])

    def disarm(self):
        self.page[:4] = struct.pack("<i", 0)

    @property
    def fired(self):
        return struct.unpack_from("<i", self.page, 4)[0]

    @property
    def calls(self):
        return struct.unpack_from("<q", self.page, 24)[0]

    @property
    def what(self):
        return self.page[36:272].split(b"\0")[0].decode()


class Server:
    """One process. `start` may leave it dead: see `ready`."""

    def __init__(self, espalier, faults, model, *options):
        self.log = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [espalier, "serve", "--model", model, "--port", "0", "--threads", "2", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, **faults.environment})
        self.port = self.idler = None

    def words(self):
        # Not by seek and read: the server writes at the same offset of the file, and would write over its own lines.
        log = self.log.fileno()
        return os.pread(log, os.fstat(log).st_size, 0).decode()

    def wait_ready(self):
        """True when it serves, False when it ended instead."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = re.search(r"serving .+ on http://127\.0\.0\.1:(\d+)", self.words())
            if found:
                self.port = int(found.group(1))
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.002)
        raise Broken("it neither serves nor ends")

    # --- talking

    def send(self, method, path, body=None):
        if isinstance(body, dict) and path.endswith("completions"):
            # Every request meets an empty cache: the same calls each time, and the same answer to the byte.
            body = {**body, "cache_salt": f"{next(SALTS):08}"}
        data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                       f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return client

    def ask(self, method, path, body=None):
        """(status, headers, text), or None when the connection was closed before a whole answer. Of a
        stream that breaks off, what came."""
        try:
            with self.send(method, path, body) as client:
                return receive(client, method)
        except (ConnectionError, BrokenPipeError):
            return None
        except TimeoutError:
            raise Broken(f"no answer to {method} {path} for {PATIENCE} s") from None

    def value(self, method, path, body=None):
        """The JSON of a 200; nothing else is right while no fault is armed."""
        answer = self.ask(method, path, body)
        if not answer or answer[0] != 200:
            raise Broken(f"{method} {path} without a fault: {answer}")
        return answer[2]

    # --- what must hold

    def blocks(self):
        text = self.value("GET", "/metrics")
        numbers = dict(re.findall(r"^(espalier_\S+) (\S+)$", text, re.M))
        states = [int(numbers[f'espalier_kv_blocks{{state="{state}"}}']) for state in ("free", "held", "cached")]
        busy = sum(int(numbers[f"espalier_{name}"])
                   for name in ("sequences_running", "requests_waiting", "active_requests"))
        return states, busy, int(numbers["espalier_connections"])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def learn(self, probe):
        """What a healthy, idle server looks like."""
        self.probe = probe
        self.answer = stable(self.value("POST", "/v1/completions", probe))
        self.check_words()
        self.total = sum(self.blocks()[0])
        self.idler = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.check_idler()
        self.wait(lambda: self.blocks()[2] == 2, "the connections of the beginning are still open")
        self.wait(lambda: self.descriptors_settled(), "the descriptors do not settle")

    def descriptors_settled(self):
        self.known_descriptors, before = self.descriptors(), getattr(self, "known_descriptors", -1)
        time.sleep(0.01)
        return before == self.known_descriptors

    def check_sound(self):
        """Alive and idle; free + held + cached = total, held = 0; no connection or descriptor lost; the same
        answer as ever."""
        self.check_alive()
        self.wait(self.idle, "not idle")
        self.check_idler()
        if stable(self.value("POST", "/v1/completions", self.probe)) != self.answer:
            raise Broken("the answer to the probe has changed")
        self.wait(lambda: self.descriptors() <= self.known_descriptors, "a descriptor is lost")
        self.check_words()

    def idle(self):
        (free, held, cached), busy, connections = self.blocks()
        if free + held + cached != self.total:
            raise Broken(f"{free} free + {held} held + {cached} cached blocks of {self.total}")
        return held == 0 and busy == 0 and connections == 2  # the idler's and the one that asks

    def check_idler(self):
        """A connection that is open all the time, as of a client that keeps some: MHD would stop accepting others
        for its sake after an EMFILE."""
        try:
            self.idler.request("GET", "/health")
            answer = self.idler.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as why:
            raise Broken(f"the idle connection: {why!r}") from None
        if answer.status != 200:
            raise Broken(f"the idle connection: status {answer.status}")

    def wait(self, holds, complaint):
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise Broken(complaint)
            time.sleep(0.002)

    def check_alive(self):
        if self.process.poll() is not None:
            raise Broken(f"the server ended with status {self.process.returncode}: {last_lines(self.words())}")

    def check_words(self):
        words = self.words()
        if re.search(r"Sanitizer|runtime error|broken invariant", words):
            raise Broken("it reported: " + last_lines(words, 12))

    # --- a limit of the address space

    def address_space(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmSize:\s+(\d+) kB", status.read()).group(1)) << 10

    def has_room_limit(self):
        """A sanitizer's shadow takes terabytes."""
        return self.address_space() < 1 << 40

    @contextlib.contextmanager
    def room_for(self, more):
        before = resource.prlimit(self.process.pid, resource.RLIMIT_AS)
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (self.address_space() + more, before[1]))
        try:
            yield
        finally:
            if self.process.poll() is None:
                resource.prlimit(self.process.pid, resource.RLIMIT_AS, before)

    # --- end

    def stop(self):
        """SIGTERM must end it with status 0."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.check_end(0)

    def check_end(self, *allowed):
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken("it does not end") from None
        self.check_words()
        if status not in allowed:
            raise Broken(f"exit status {status}: {last_lines(self.words())}")
        return status

    def kill(self):
        if self.idler:
            self.idler.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def receive(client, method):
    """(status, headers, text) or None. A chunked answer that breaks off has the header X-Broken-Off."""
    response = http.client.HTTPResponse(client, method=method)
    try:
        response.begin()
        headers = dict(response.headers)
        try:
            body = response.read()
        except http.client.IncompleteRead as broken:
            body, headers["X-Broken-Off"] = broken.partial, "1"
        return response.status, headers, body.decode(errors="replace")
    except (http.client.BadStatusLine, http.client.LineTooLong, ConnectionError):
        return None
    finally:
        response.close()


def stable(text):
    """An answer without what differs from time to time."""
    return re.sub(r'"(id|created)":("[^"]*"|\d+),', "", text)


def last_lines(text, count=3):
    return " | ".join(text.strip().split("\n")[-count:])
