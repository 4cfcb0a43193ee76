"""Servers for the clients. Each is a real `espalier serve`; its end must be clean and no block may stay held."""
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "integration"))

from espalier_server import Server  # noqa: E402

MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
GOLDEN = ROOT / "tests" / "data" / "golden" / "llama_ropescale_bf16"


def serve(*options, **more):
    server = Server(*options, **more)
    yield server
    server.wait_idle()
    server.stop()


@pytest.fixture(scope="session")
def tiny():
    """Random weights and a byte tokenizer: fast, and what it writes is mostly broken UTF-8."""
    yield from serve()


@pytest.fixture(scope="session")
def smollm():
    """The default model, as quickstart.sh serves it."""
    yield from serve(model=str(MODEL))


@pytest.fixture(params=["tiny", "smollm"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def exact():
    """A golden model in exact arithmetic: its log-probabilities can be computed elsewhere."""
    yield from serve("--weights", "native", "--kv-type", "f32", model=str(GOLDEN))


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    """A server that asks for the key "sesame"."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("sesame\n")
    server = Server("--api-key-file", str(keys))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The default model's tokenizer as a Hugging Face directory."""
    import subprocess
    out = tmp_path_factory.mktemp("tokenizer")
    subprocess.run([sys.executable, HERE / "gguf_tokenizer.py", MODEL, out], check=True)
    return out


@pytest.fixture(scope="session")
def run_client(tmp_path_factory):
    """Runs a command of the client's venv as its user would, offline, in a home of its own; gives its output."""
    import subprocess
    home = tmp_path_factory.mktemp("home")

    def run(name, *arguments, timeout=300, offline=True, **environment):
        command = [str(pathlib.Path(sys.executable).parent / name), *map(str, arguments)]
        env = {**os.environ, "HOME": str(home), "OPENAI_API_KEY": "none", "NO_COLOR": "1", **environment}
        if offline:
            env["HF_HUB_OFFLINE"] = "1"
        done = subprocess.run(command, env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        return done.stdout

    return run


class Ledger:
    """What the server itself counted since the ledger was opened, to hold against a client's report."""

    def __init__(self, server):
        server.wait_idle()
        self.server, self.before = server, server.metrics()

    def grown(self, name, **labels):
        self.server.wait_idle()
        key = (name, frozenset(labels.items()))
        return self.server.metrics()[key] - self.before[key]

    def check(self, requests, output_tokens, prompt_tokens=None):
        """So many requests and tokens and no others, none refused or given up."""
        assert self.grown("espalier_requests_total", outcome="length") == requests
        assert self.grown("espalier_requests_total", outcome="stop") == 0
        assert self.grown("espalier_generation_tokens_total") == output_tokens
        assert self.grown("espalier_disconnects_total") == 0
        if prompt_tokens is not None:
            assert self.grown("espalier_prompt_tokens_total") == prompt_tokens

    def check_times(self, ttft_ms, e2e_ms):
        """The client's means against ours. Ours begin when the request is read and end when the token is
        made, so they are the shorter ones; the difference is a client's own work on this machine."""
        for ours, theirs in (("espalier_time_to_first_token_seconds", ttft_ms),
                             ("espalier_e2e_request_latency_seconds", e2e_ms)):
            mean = 1000 * self.grown(ours + "_sum") / self.grown(ours + "_count")
            assert 0 < mean <= theirs + 1, (ours, mean, theirs)
            assert theirs < 2 * mean + 1000, (ours, mean, theirs)
