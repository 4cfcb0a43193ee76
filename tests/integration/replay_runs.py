"""What the tests of `espalier replay` share: stubs, traces, and runs whose figures are made again from their records."""
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from espalier_server import ESPALIER, PATIENCE

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
STUB = str(pathlib.Path(ESPALIER).parent / "stub_server")
sys.path.insert(0, str(ROOT / "tests"))
import recompute_results  # noqa: E402

SERIAL = {"prompt_tokens": 40, "stages": [12], "class": "chat"}
BRANCHING = {"prompt_tokens": 64, "prefix": [[17, 32]], "stages": [6, [8, 5, 9], 4, [7, 7], 3], "class": "agent",
             "slo": {"ttft_ms": 2000, "tpot_ms": 50}}


@pytest.fixture
def stub():
    """Starts stubs; the URL of each."""
    started = []

    def start(*options):
        process = subprocess.Popen([STUB, *map(str, options)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process.stdout.readline().split()[-1]

    start.processes = started
    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def trace(tmp_path):
    """Writes a trace of requests, `gap_ms` apart; its path."""
    def write(*requests, gap_ms=5):
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(json.dumps({"arrival_ms": gap_ms * i, **request}) + "\n"
                                for i, request in enumerate(requests)))
        return path
    return write


def run(*arguments, status=0, **more):
    done = subprocess.run([ESPALIER, "replay", *map(str, arguments)], capture_output=True, text=True,
                          timeout=PATIENCE, **more)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def await_record(record):
    """Until the run has begun to write it."""
    deadline = time.monotonic() + PATIENCE
    while not record.exists() or not record.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def agreed(record, figures):
    checked, _, found = recompute_results.differences(record, figures)
    assert checked > 100 and not found, found


def same_again(record, *options):
    """The figures of --from, which has a command of its own, with the run's in its place."""
    again = json.loads(run("--from", record, "--json", *options).stdout)
    assert again["command"].startswith("espalier replay --from ")
    return {**{key: value for key, value in again.items() if key != "recorded_command"},
            "command": again["recorded_command"]}


def runs_of(path):
    """[(header, records, end)] of a record file."""
    runs = []
    for line in map(json.loads, path.read_text().splitlines()):
        if "espalier_replay" in line:
            runs.append([line, [], None])
        elif "end" in line:
            runs[-1][2] = line["end"]
        else:
            runs[-1][1].append(line)
    return runs


class Replay:
    """A run with --json and --record, its figures checked against the record by the independent script and by
    --from."""

    def __init__(self, tmp_path, *arguments, **more):
        record = tmp_path / "record.jsonl"
        self.done = run(*arguments, "--json", "--record", record, **more)
        self.path = record
        self.figures = json.loads(self.done.stdout)
        agreed(record, self.figures)
        assert same_again(record) == self.figures
        self.runs = runs_of(record)
        self.header, records, self.end = self.runs[-1]
        self.records = sorted(records, key=lambda record: record["index"])


@pytest.fixture
def replay(tmp_path):
    return lambda *arguments, **more: Replay(tmp_path, *arguments, **more)
