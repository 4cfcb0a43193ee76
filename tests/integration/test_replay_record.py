"""Records of `espalier replay`: broken and edited ones, judged anew, of searches, and of runs that were cut off."""
import json
import signal
import subprocess
import time

import pytest

from espalier_server import ESPALIER, PATIENCE
from replay_runs import (BRANCHING, SERIAL, Replay, agreed, await_record, recompute_results, replay, run,  # noqa: F401
                         same_again, stub, trace)


@pytest.mark.parametrize("line, words", [
    ("{}", "expected a line with"), ("nothing", "no JSON object"), ("", "the file has no run"),
    ('{"espalier_replay": 2}', "espalier_replay"),
    ('{"espalier_replay": 1}\n{"index": -1}', '"index": found -1'),
    ('{"espalier_replay": 1}\n{"index": 0, "class": 3}', '"class": found 3, expected a string'),
])
def test_a_record_that_is_none_is_said(tmp_path, line, words):
    path = tmp_path / "record.jsonl"
    path.write_text(line + "\n" if line else "")
    done = run("--from", path, status=1)
    assert words in done.stderr and "record.jsonl" in done.stderr and not done.stdout


def test_a_record_that_was_cut_off_still_counts(stub, trace, replay, tmp_path):
    done = replay("--trace", trace(*[SERIAL] * 4), "--url", stub("--gap", 1))
    lines = done.path.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(lines[:3]) + lines[3][:80])
    again = run("--from", cut)
    assert "cut off" in again.stderr and "The record has no end" in again.stdout


def test_a_record_is_judged_anew_by_other_limits(stub, trace, replay):
    done = replay("--trace", trace(*[SERIAL] * 4), "--url", stub("--ttft", 50, "--gap", 1), "--slo-ttft", "10s")
    assert done.figures["slo_attainment"] == 1
    again = json.loads(run("--from", done.path, "--json", "--slo-ttft", "20ms").stdout)
    assert again["slo_attainment"] == 0 and again["completed"] == 4
    assert again["slo"]["ttft_ms"] == 20 == again["judged_anew"]["slo"]["ttft_ms"] and again["slo"]["tpot_ms"] == 0
    agreed(done.path, again)
    table = run("--from", done.path, "--slo-ttft", "20ms").stdout
    assert "SLO: TTFT 20 ms, of all requests." in table
    assert "SLO: TTFT 10000 ms, where the trace names none." in run("--from", done.path).stdout


def test_a_record_is_judged_as_its_run_was(stub, trace, replay, tmp_path):
    # Replay itself compares with --from, which is told neither.
    done = replay("--trace", trace(*[SERIAL] * 4), "--url", stub("--gap", 1), "--slo-kind", "gaps", "--slo-tpot", "1us",
                  "--attainment", "0.5")
    assert done.figures["slo_kind"] == "gaps" and done.figures["slo_attainment"] == 0
    again = json.loads(run("--from", done.path, "--json", "--slo-kind", "mean", "--slo-tpot", "20s").stdout)
    assert again["slo_kind"] == "mean" and again["slo_attainment"] == 1 and again["slo"]["tpot_ms"] == 20000
    pages = tmp_path / "as it was.html", tmp_path / "anew.html"
    run("--from", done.path, "--report", pages[0])
    run("--from", done.path, "--report", pages[1], "--slo-tpot", "21ms", "--attainment", "0.9")
    was, anew = (page.read_text() for page in pages)
    assert "by gaps); target 50 %" in was and "SLO 21 ms" not in was
    assert "by gaps); target 90 %" in anew and "SLO 21 ms" in anew


def test_a_search_is_judged_anew_by_another_target(stub, trace, replay):
    done = replay("--trace", trace(SERIAL), "--url", stub("--ttft", 1, "--gap", 1, "--faults", "none,503"),
                  "--goodput", "--rate", 400, "--requests", 20)
    again = json.loads(run("--from", done.path, "--json", "--attainment", "0.4").stdout)
    in_time = [probe["rate_per_s"] for probe in again["goodput_search"]["probes"] if not probe["late"]]
    assert done.figures["goodput"]["max_rate"] is None and again["goodput"]["max_rate"] == max(in_time, default=None)
    # The figures are of that rate; of the lowest one where a busy machine sent each of them late.
    rates = [probe["rate_per_s"] for probe in again["goodput_search"]["probes"]]
    assert again["offered_rate"] == max(in_time, default=min(rates))
    agreed(done.path, again)


def test_an_interrupted_run_reaches_no_target(stub, trace, tmp_path):
    record = tmp_path / "record.jsonl"
    process = subprocess.Popen([ESPALIER, "replay", "--trace", trace(SERIAL), "--url", stub("--ttft", 1, "--gap", 1),
                                "--json", "--goodput", "--rate", "5", "--requests", "1000", "--record", record],
                               stdout=subprocess.PIPE, text=True)
    await_record(record)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    figures = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert figures["end"]["interrupted"] and figures["goodput"]["max_rate"] is None
    assert [(probe["passed"], probe["interrupted"]) for probe in figures["goodput_search"]["probes"]] == [(None, True)]
    assert figures["goodput_search"]["interrupted"] and "search was interrupted" in figures["notices"]
    agreed(record, figures)
    assert same_again(record) == figures


def test_a_run_that_was_cut_off_bounds_no_search(stub, trace, tmp_path):
    record, page = tmp_path / "record.jsonl", tmp_path / "page.html"
    process = subprocess.Popen([ESPALIER, "replay", "--trace", trace(SERIAL), "--url", stub("--ttft", 1, "--gap", 1),
                                "--json", "--goodput", "--rate", "40", "--duration", "1500ms", "--record", record],
                               stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not record.exists() or record.read_text().count("espalier_replay") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    figures = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert process.returncode == 0 and "search was interrupted" in figures["notices"]
    first, second = figures["goodput_search"]["probes"]
    assert second["interrupted"] and second["passed"] is None and not figures["end"]["interrupted"]
    assert first["passed"] or first["late"]  # a busy machine
    if first["passed"]:
        assert figures["goodput"]["max_rate"] == 40 and figures["goodput"]["max_rate_interval"] == [40, None]
    agreed(record, figures)
    assert same_again(record) == figures
    table = run("--from", record, "--report", page).stdout
    assert "interrupted: not judged" in table and "The search was interrupted" in table
    assert "search was interrupted" in page.read_text()


def test_a_record_may_have_been_through_an_editor(stub, trace, replay, tmp_path):
    done = replay("--trace", trace(*[SERIAL] * 3), "--url", stub("--gap", 1))
    edited = tmp_path / "edited.jsonl"
    text = "\ufeff\r\n" + done.path.read_text().replace("\n", "\r\n\r\n") + "  \r\n\t"
    edited.write_bytes(text.encode())
    assert same_again(edited) == done.figures


def test_a_record_of_nonsense_is_none(stub, trace, replay, tmp_path):
    done = replay("--trace", trace(SERIAL, SERIAL), "--url", stub("--gap", 1))
    lines, changed = done.path.read_text().splitlines(), tmp_path / "changed.jsonl"
    record = json.loads(lines[1])
    changed.write_text("\n".join([lines[0], json.dumps({**record, "end_us": record["tokens"][-1][0] - 1})]) + "\n")
    said = run("--from", changed, status=1)
    assert 'changed.jsonl:2: "end_us"' in said.stderr and not said.stdout
    changed.write_text("\n".join(lines * 2) + "\n")
    said = run("--from", changed, status=1)
    assert "a second run" in said.stderr and not said.stdout


def test_a_report_that_cannot_be_spares_the_record(stub, trace, tmp_path):
    record = tmp_path / "record.jsonl"
    record.write_text("precious\n")
    run("--trace", trace(SERIAL), "--url", stub(), "--record", record, "--report", tmp_path / "no" / "x.html", status=1)
    assert record.read_text() == "precious\n"


def test_the_independent_check_can_fail(stub, trace, replay, tmp_path):
    done = replay("--trace", trace(SERIAL, SERIAL), "--url", stub("--gap", 1))
    changed = tmp_path / "changed.jsonl"
    lines = done.path.read_text().splitlines()
    record = json.loads(lines[1])
    record["tokens"][0][0] -= 500
    changed.write_text("\n".join([lines[0], json.dumps(record), *lines[2:]]) + "\n")
    _, _, found = recompute_results.differences(changed, done.figures)
    assert any("ttft_ms" in line for line in found)
