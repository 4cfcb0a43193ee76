"""What the server learns of its steps: at once, for ever, and kept between two runs."""
import json
import pathlib
import time

import pytest

from espalier_server import PATIENCE

QUESTION = {"prompt": "A garden", "n": 3, "max_tokens": 16, "ignore_eos": True}


@pytest.fixture
def start(launch, tmp_path):
    def run(*options, cache=tmp_path):
        return launch(*options, environment={"XDG_CACHE_HOME": str(cache)})
    run.folder = tmp_path / "espalier" / "steps"
    return run


def kept(folder):
    files = list(folder.glob("*"))
    assert len(files) == 1 and files[0].suffix == ".json"
    return json.loads(files[0].read_text())


def wait_for_file(folder):
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("policy", ["eager", "taper"])
def test_every_step_is_predicted_and_measured(start, policy):
    server = start("--policy", policy)
    for _ in range(3):
        server.complete(**QUESTION)
    server.wait_idle()
    steps = server.metric("espalier_steps_total")
    assert server.metric("espalier_step_predictions_total") == steps
    assert server.metric("espalier_step_predicted_seconds_total") > 0
    assert server.metric("espalier_step_measured_seconds_total") > 0
    assert server.metric("espalier_step_prediction_error_total") > 0
    assert "a step of a single row takes" in server.words()
    server.stop()


def test_steps_are_profiled_until_the_first_request_and_kept(start):
    server = start()
    wait_for_file(start.folder)
    first = kept(start.folder)
    assert first["espalier_steps"] == 1 and "llama" in first["about"]
    profiled = first["learned"][0]
    assert profiled > 20
    assert server.metric("espalier_steps_total") == 0
    server.complete(**QUESTION)
    server.wait_idle()
    steps = server.metric("espalier_steps_total")
    server.stop()
    assert kept(start.folder)["learned"][0] == profiled + steps

    server = start()
    assert "known from an earlier run" in server.words()
    server.complete(**QUESTION)
    server.stop()
    assert kept(start.folder)["learned"][0] > profiled + steps


def test_other_threads_are_another_file(start):
    start("--threads", "1").stop()
    start("--threads", "2").stop()
    assert len(list(start.folder.glob("*.json"))) == 2


@pytest.mark.parametrize("broken", ["", "{", "[]", "nonsense", "about", "learned", "infinite"])
def test_a_broken_file_is_told_and_made_anew(start, broken):
    start().stop()
    path = next(start.folder.glob("*.json"))
    whole = json.loads(path.read_text())
    if broken == "about":
        path.write_text(json.dumps({**whole, "about": "another machine"}))
    elif broken == "learned":
        path.write_text(json.dumps({**whole, "learned": whole["learned"][:-1]}))
    elif broken == "infinite":
        path.write_text(json.dumps({**whole, "learned": [1e300] * len(whole["learned"])}))
    else:
        path.write_text(broken)
    server = start()
    words = server.words()
    assert str(path) in words and "learned anew" in words and "earlier run" not in words
    server.complete(**QUESTION)
    server.stop()
    assert kept(start.folder)["about"] == whole["about"]


def test_no_place_for_the_file_is_told(start, tmp_path):
    blocked = pathlib.Path(tmp_path) / "file"
    blocked.write_text("")
    server = start(cache=blocked)
    assert "is not kept between two runs" in server.words() and str(blocked) in server.words()
    server.complete(**QUESTION)
    server.stop()
