"""Starts espalier serve on a free port and hands out its address; the process must end cleanly."""
import os, re, signal, subprocess, time, urllib.request
import pytest

BINARY = os.environ["ESPALIER_BINARY"]
DEFAULT_MODEL = os.environ.get("ESPALIER_TEST_MODEL", "models/SmolLM2-135M-Instruct.Q4_1.gguf")


class Server:
    def __init__(self, model, *options):
        self.process = subprocess.Popen([BINARY, "serve", "--model", model, "--port", "0", *options], stderr=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.url = f"http://127.0.0.1:{self.port}"
                return
        raise RuntimeError("the server did not start:\n" + "".join(self.lines))

    def metric(self, name):
        with urllib.request.urlopen(self.url + "/metrics") as answer:
            text = answer.read().decode()
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1))

    def idle(self):
        """Nothing runs and every KV block is free again, within a second or so."""
        for _ in range(300):
            if self.metric('espalier_kv_blocks{state="held"}') == 0 and self.metric("espalier_active_requests") == 0:
                return True
            time.sleep(0.05)
        return False

    def stop(self, signals=1):
        for _ in range(signals):
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        rest = self.process.communicate(timeout=60)[1]
        return self.process.returncode, "".join(self.lines) + rest


@pytest.fixture
def start():
    started = []

    def begin(model="synthetic:tiny", *options):
        started.append(Server(model, *options))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            code, log = server.stop()
            assert code == 0, log
            assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture(scope="module")
def tiny():
    server = Server("synthetic:tiny")
    yield server
    assert server.idle()
    code, log = server.stop()
    assert code == 0 and "Sanitizer" not in log and "runtime error" not in log, log
