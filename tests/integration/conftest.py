import os
import pathlib

import pytest
from espalier_server import Server

MODEL = pathlib.Path(os.environ["ESPALIER_ROOT"]) / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = {"prompt": "The quick brown fox", "max_tokens": 24, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def shared():
    """One server for a module of tests; its end must be clean."""
    server = Server()
    server.answer = server.complete(**QUESTION)["choices"][0]["text"]
    yield server
    server.stop()


@pytest.fixture
def server(shared):
    """The module's server; after the test it must be idle and answer as it always did."""
    yield shared
    shared.wait_idle()
    assert shared.complete(**QUESTION)["choices"][0]["text"] == shared.answer


@pytest.fixture
def launch():
    """Starts servers with options of a test's own."""
    started = []

    def start(*options, **more):
        started.append(Server(*options, **more))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture(scope="module")
def smollm():
    """The default model, where it was downloaded."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there")
    server = Server(model=str(MODEL))
    server.path = MODEL
    yield server
    server.stop()
