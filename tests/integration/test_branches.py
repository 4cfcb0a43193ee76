"""Answers in stages over HTTP: the golden branches to the id, every form of a stage, grammars, and the streams."""
import concurrent.futures
import json
import os
import pathlib

import openai
import pytest
import scripted_model
from espalier_server import Server, wait_for

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
GENERATED = pathlib.Path(os.environ.get("ESPALIER_TEST_GENERATED", ROOT / "build" / "generated"))
DATA = ROOT / "tests" / "data" / "golden"
SETS = ["llama_tied_f32", "llama_ropescale_bf16", "qwen2_f16", "qwen3_sharded_bf16"]
CLOSE = 2e-3
BLOCK = 2 * 16 * scripted_model.HEADS * scripted_model.HEAD_DIM * 4  # K and V of 16 slots in f32

SCRIPT = {
    # a question, and what is said to it
    "Q": ["so ", "it", " is", ".\n\nTh", "at's"],
    "L": ["- one", "\n- tw", "o\n- three", "\n\nwell"],
    "M": ["<Parallel>\n<Go", "al>\n", "<Outline>1: uno</Out", "line>\n<Outline>2:", " due</Outline>\n</Go", "al>??"],
    "N": ["<guide", "line><plan>1: a</plan>", "<plan>2: b</plan></guideline>"],
    "X": ["</Path><Para", "llel> stays"],
    # behind the engine's prompts
    ":": [" path", "</Pa", "th></step>"],
    "\n": ["sum", "</Conclusion>\n</Parallel>", "</takeaway>", " done"],
    "=": ["for", "ty\xe9", "-two"],
}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scripted")
    pieces = scripted_model.make(directory, SCRIPT)
    server = Server("--weights", "native", "--kv-type", "f32", "--context", "1024", model=str(directory))
    server.pieces = pieces
    yield server
    server.wait_idle()
    server.stop()


def serial(**fields):
    return {"type": "serial", **fields}


def parallel(branches, **fields):
    return {"type": "parallel", "branches": branches, **fields}


def answer_of(server, prompt, **fields):
    answer = server.complete(prompt=prompt, temperature=0, return_token_ids=True, **fields)
    (choice,) = answer["choices"]
    detokenized = server.post("/detokenize", {"tokens": choice["token_ids"]})[1]["prompt"]
    assert detokenized == choice["text"], "ids and text are of the same extent"
    return choice, answer


def text_of(server, prompt, **fields):
    """Of whole answers and of both streams, which must agree."""
    choice, answer = answer_of(server, prompt, **fields)
    text = choice["text"]
    for options in ({}, {"branch_events": True}):
        events = server.events(prompt=prompt, temperature=0, stream_options={"include_usage": True, **options}, **fields)
        assert events[-1]["usage"] == answer["usage"]
        pieces = [(event.get("espalier"), event["choices"][0]) for event in events[:-1]]
        assert [choice["finish_reason"] for _, choice in pieces if choice["finish_reason"]] == [choice["finish_reason"]]
        if options:
            # Joined by stage and branch the events are the text.
            pieces.sort(key=lambda piece: (piece[0]["stage"], piece[0]["branch"]) if piece[0] else (1000, 0))
        assert "".join(choice["text"] for _, choice in pieces) == text
    return text


# --- golden


@pytest.fixture(scope="module", params=SETS)
def golden(request):
    directory = DATA / request.param
    if not list(directory.glob("*.safetensors")):
        directory = GENERATED / request.param
        if not (directory / "config.json").exists():
            pytest.skip("tests/make_golden_data.py makes the weights")
    server = Server("--weights", "native", "--kv-type", "f32", model=str(directory))
    yield server, json.loads((DATA / request.param / "golden.json").read_text())["branches"]
    server.wait_idle()
    server.stop()


def test_golden_branches_and_their_join(golden):
    server, cases = golden
    for case in cases:
        stages = [parallel([{"prompt": branch["prompt"]} for branch in case["branches"]], max_tokens=16),
                  serial(prompt=case["join"]["prompt"], max_tokens=16)]
        answer = server.complete(prompt=case["prefix"], temperature=0, ignore_eos=True, return_token_ids=True, logprobs=1,
                                 stages=stages)
        (choice,) = answer["choices"]
        expected, numbers = [], []
        for part in [*case["branches"], case["join"]]:
            expected += part["prompt"] + part["greedy"]["ids"]
            numbers += [None] * len(part["prompt"]) + part["greedy"]["logprobs"]
        assert choice["token_ids"] == expected
        for own, wanted in zip(choice["logprobs"]["token_logprobs"], numbers, strict=True):
            assert own is None if wanted is None else own == pytest.approx(wanted, abs=CLOSE)
        assert answer["usage"]["prompt_tokens"] == len(case["prefix"])
        assert answer["usage"]["completion_tokens"] == 4 * 16


def test_one_branch_alone_is_plain_decoding(golden):
    server, cases = golden
    for case in cases:
        branch = case["branches"][0]
        plain = server.complete(prompt=case["prefix"] + branch["prompt"], temperature=0, ignore_eos=True, max_tokens=16,
                                return_token_ids=True)["choices"][0]["token_ids"]
        alone = server.complete(prompt=case["prefix"], temperature=0, ignore_eos=True, return_token_ids=True,
                                stages=[parallel([{"prompt": branch["prompt"]}], max_tokens=16)])
        assert alone["choices"][0]["token_ids"] == branch["prompt"] + plain == branch["prompt"] + branch["greedy"]["ids"]


def test_serial_stages_are_one_text(golden):
    server, cases = golden
    prefix = cases[0]["prefix"]
    fields = dict(prompt=prefix, temperature=0, ignore_eos=True, return_token_ids=True)
    plain = server.complete(max_tokens=40, **fields)["choices"][0]["token_ids"]

    def whole(n):  # no character begins in these tokens and ends behind them
        return not server.post("/detokenize", {"tokens": plain[:n]})[1]["prompt"].endswith("\ufffd")
    ends = [n for n in range(1, 41) if whole(n)]
    ends = [ends[0], ends[len(ends) // 2], ends[-1]]
    stages = [serial(max_tokens=end - start) for start, end in zip([0, *ends], ends)]
    assert server.complete(stages=stages, **fields)["choices"][0]["token_ids"] == plain[:ends[-1]]


# --- forms of stages


def test_each_form_of_a_stage(speaker):
    text = text_of(speaker, "Q", stages=[
        serial(max_tokens=2), parallel([{"prompt": "F:"}, {"prompt": "A=", "max_tokens": 1}], max_tokens=8),
        serial(prompt="\n", max_tokens=1)])
    assert text == "so it" + "F: path</Path></step>" + "A=for" + "\nsum"


def test_parallel_at_first_and_twice(speaker):
    text = text_of(speaker, "?", max_tokens=2, stages=[
        parallel([{"prompt": "a="}, {"prompt": "b:"}]), parallel([{"prompt": "c="}, {"prompt": "d="}]),
        serial(prompt="Q", max_tokens=30)])
    assert text == "a=forty\xe9b: path</Pa" "c=forty\xe9d=forty\xe9" "Qso it is.\n\nThat's"


def test_stops_cut_within_a_token(speaker):
    # The visible part of a cut token goes on as the next piece's beginning: "." is followed by nothing else.
    text = text_of(speaker, "Q", stages=[serial(max_tokens=9, stop="\n\n"), serial(prompt="\n", max_tokens=9)])
    assert text == "so it is.\nsum</Conclusion>\n</Parallel></takeaway> done"
    # In a branch, and before branches.
    text = text_of(speaker, "Q", max_tokens=9, stop=["\n\n", "th>"], stages=[
        serial(), parallel([{"prompt": "Q"}, {"prompt": ":"}]), serial(prompt="\n", stop=[])])
    assert text == "so it is." "Qso it is." ": path</Pa" "\nsum</Conclusion>\n</Parallel></takeaway> done"
    assert text_of(speaker, "Q", stages=[serial(max_tokens=9, stop="s"), serial(prompt="=", max_tokens=1)]) == "=for"


def test_finish_reason_is_the_last_stages(speaker):
    def reason(*stages):
        return answer_of(speaker, "Q", stages=list(stages))[0]["finish_reason"]
    assert reason(serial(max_tokens=1), serial(max_tokens=20)) == "stop"
    assert reason(serial(max_tokens=20), serial(prompt="=", max_tokens=1)) == "length"
    assert reason(parallel([{"prompt": "="}, {"prompt": "=", "max_tokens": 1}], max_tokens=9)) == "length"


def test_outline(speaker):
    outline = {"from": "outline", "prompt": "\n{index} {item}=", "max_tokens": 1}
    text = text_of(speaker, "L", stages=[
        serial(max_tokens=9, stop="\n\n"), parallel({**outline, "max": 2}), serial(prompt="!Q", max_tokens=1)])
    assert text == "- one\n- two\n- three" "\n1 one=for" "\n2 two=for" "!Qso "
    _, answer = answer_of(speaker, "L", timings=True, stages=[
        serial(max_tokens=9, stop="\n\n"), parallel({**outline, "max": 2})])
    assert answer["timings"]["outline_beyond"] == 1 and "empty_outline" not in answer["timings"]


def test_an_outline_without_items_is_skipped(speaker):
    stages = [serial(max_tokens=9), parallel({"from": "outline", "prompt": "{item}", "max_tokens": 1}),
              serial(prompt="=", max_tokens=1)]
    choice, answer = answer_of(speaker, "Q", timings=True, stages=stages)
    assert choice["text"] == "so it is.\n\nThat's=for"
    assert answer["timings"]["empty_outline"] is True


def test_branches_of_no_tokens_and_many(speaker):
    assert text_of(speaker, "Q", stages=[parallel([{}, {"prompt": "x"}], max_tokens=0), serial(prompt="=", max_tokens=1)]) \
        == "x=for"
    assert text_of(speaker, "Q", stages=[parallel([{"prompt": "="}] * 64, max_tokens=1)]) == "=for" * 64


def test_more_than_could_ever_fit_is_refused_before_any_work(speaker):
    steps = speaker.metric("espalier_steps_total")
    status, answer = speaker.post("/v1/completions", {"prompt": "Q", "stages": [
        serial(max_tokens=500), parallel([{"max_tokens": 500}, {"max_tokens": 3}]), serial(max_tokens=40)]})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded", answer
    assert "1042" in answer["error"]["message"] and answer["error"]["param"] == "stages"
    assert speaker.metric("espalier_steps_total") == steps


def test_the_cache_holds_the_sum_of_the_branches(launch, tmp_path):
    scripted_model.make(tmp_path, SCRIPT)
    server = launch("--weights", "native", "--kv-type", "f32", "--context", "256", "--kv-memory", str(BLOCK * 16),
                    model=str(tmp_path))
    fits = {"prompt": "Q", "stages": [parallel([{"prompt": "="}] * 4, max_tokens=40)], "ignore_eos": True}
    status, answer = server.post("/v1/completions", fits)
    assert status == 200, answer
    assert answer["usage"]["completion_tokens"] == 160
    fits["stages"][0]["branches"] *= 2
    status, answer = server.post("/v1/completions", fits)
    assert status == 400 and answer["error"]["param"] == "stages" and "blocks" in answer["error"]["message"], answer
    server.wait_idle()


def test_preemption_loses_no_text(launch, tmp_path):
    """More at the same time than the cache holds: they are computed again, branch by branch."""
    scripted_model.make(tmp_path, SCRIPT)
    server = launch("--weights", "native", "--kv-type", "f32", "--context", "256", "--kv-memory", str(BLOCK * 28),
                    "--max-rows", "5", model=str(tmp_path))
    branches = parallel([{"prompt": p} for p in "=:QL"], max_tokens=20)
    fields = {"prompt": "Q", "ignore_eos": True, "temperature": 0, "stages": [
        serial(max_tokens=2), branches, serial(prompt="\n", max_tokens=9), branches]}
    alone = server.complete(**fields)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda _: server.complete(**fields), range(48)):
            assert answer["choices"] == alone["choices"]
            assert answer["usage"]["completion_tokens"] == alone["usage"]["completion_tokens"]
    assert server.metric("espalier_preemptions_total") > 0
    server.wait_idle()
    server.stop()


def test_ids_of_what_a_stop_string_leaves_at_the_end(speaker):
    assert text_of(speaker, "Q", stages=[serial(max_tokens=30, stop=["hat"])]) == "so it is.\n\nT"
    assert text_of(speaker, "Q", stages=[serial(max_tokens=1), parallel([{"prompt": "="}, {"prompt": ":"}], max_tokens=9,
                                                                       stop=["ath", "y"])]) == "so =fort: p"


# --- grammars


def test_multiverse(speaker):
    text = text_of(speaker, "M", max_tokens=200, branching={"grammar": "multiverse"})
    assert text == ("<Parallel>\n<Goal>\n<Outline>1: uno</Outline>\n<Outline>2: due</Outline>\n</Goal>"
                    "\n<Path>\n1: path</Path>" "\n<Path>\n2: path</Path>"
                    "\n<Conclusion>\nsum</Conclusion>\n</Parallel></takeaway> done")
    _, answer = answer_of(speaker, "M", max_tokens=200, branching={"grammar": "multiverse"}, timings=True)
    assert "malformed_branching" not in answer["timings"]


def test_npr(speaker):
    _, answer = answer_of(speaker, "N", max_tokens=200, branching={"grammar": "npr"}, timings=True)
    text = text_of(speaker, "N", max_tokens=200, branching={"grammar": "npr"})
    assert text == ("<guideline><plan>1: a</plan><plan>2: b</plan></guideline>"
                    "\n<step>\n1: path</Path></step>" "\n<step>\n2: path</Path></step>"
                    "\n<takeaway>\nsum</Conclusion>\n</Parallel></takeaway> done")
    assert "malformed_branching" not in answer["timings"]


def test_tags_out_of_place_stay_text(speaker):
    choice, answer = answer_of(speaker, "X", max_tokens=50, branching={"grammar": "multiverse"}, timings=True)
    assert choice["text"] == "</Path><Parallel> stays"
    assert answer["timings"]["malformed_branching"] is True


def test_max_tokens_of_a_grammar_counts_along_the_path(speaker):
    longest = 3 + len("\n<step>\n1:") + 3 + len("\n<takeaway>\n") + 4
    for most in range(1, longest + 3):
        choice, answer = answer_of(speaker, "N", max_tokens=most, branching={"grammar": "npr"})
        assert choice["finish_reason"] == ("stop" if most > longest else "length"), most
        assert choice["text"].endswith(" done") == (most >= longest)


def test_a_model_that_forks_until_the_cache_is_full(launch, tmp_path):
    scripted_model.make(tmp_path, SCRIPT)
    whole = None
    for blocks in (16, 5, 4):
        server = launch("--weights", "native", "--kv-type", "f32", "--context", "64", "--kv-memory", str(BLOCK * blocks),
                        model=str(tmp_path))
        (choice,) = server.complete(prompt="N", temperature=0, max_tokens=60, branching={"grammar": "npr"})["choices"]
        whole = whole or choice["text"]
        assert whole.startswith(choice["text"])
        assert choice["finish_reason"] == ("stop" if blocks == 16 else "length")
        server.wait_idle()
        server.stop()


# --- clients


def test_timings_and_slo(speaker):
    fields = {"prompt": "Q", "temperature": 0, "timings": True,
              "stages": [serial(max_tokens=2), parallel([{"prompt": "="}, {"prompt": ":"}], max_tokens=2)]}
    timings = speaker.complete(**fields)["timings"]
    assert 0 <= timings["queue_ms"] <= timings["ttft_ms"] <= timings["e2e_ms"]
    assert timings["tpot_ms"] >= 0 and timings["slo_met"] in (True, False), "by the server's own"
    assert timings["steps"] >= 4 and timings["deferred_branch_steps"] == 0
    assert speaker.complete(**fields, slo={"ttft_ms": 600000, "tpot_ms": 600000})["timings"]["slo_met"] is True
    assert speaker.complete(**fields, slo={"ttft_ms": "none", "tpot_ms": "none"})["timings"]["slo_met"] is None
    (last,) = [event for event in speaker.events(**fields) if "timings" in event]
    assert last["choices"] == []


def test_a_model_that_forks_is_counted_as_branching(launch, tmp_path):
    scripted_model.make(tmp_path, SCRIPT)
    server = launch("--weights", "native", "--kv-type", "f32", "--context", "512", model=str(tmp_path))
    limits = {"ttft_ms": 600000, "tpot_ms": 600000}

    def met(shape):
        return server.metric("espalier_slo_requests_total", ttft_ms="600000", tpot_ms="600000", shape=shape, outcome="met")

    answer_of(server, "M", max_tokens=200, branching={"grammar": "multiverse"}, slo=limits)
    assert (met("branching"), met("serial")) == (1, 0)
    answer_of(server, "M", max_tokens=1, branching={"grammar": "multiverse"}, slo=limits)
    assert (met("branching"), met("serial")) == (1, 1)
    server.stop()


def test_policies_change_no_token(launch, tmp_path):
    scripted_model.make(tmp_path, SCRIPT)
    stages = [serial(max_tokens=2), parallel([{"prompt": p} for p in ("=", ":", "Q", "L")], max_tokens=9),
              serial(prompt="\n", max_tokens=9)]
    texts, deferred = set(), {}
    for policy in ("eager", "off", "cap:2"):
        server = launch("--weights", "native", "--kv-type", "f32", "--context", "512", "--policy", policy,
                        model=str(tmp_path))
        choice, answer = answer_of(server, "Q", stages=stages, timings=True)
        texts.add(choice["text"])
        deferred[policy] = answer["timings"]["deferred_branch_steps"]
        server.wait_idle()
        server.stop()
    assert len(texts) == 1
    assert deferred["eager"] == 0 < deferred["cap:2"] < deferred["off"]


def test_an_unmodified_client_reads_all_of_it(speaker):
    client = openai.OpenAI(base_url=speaker.url + "/v1", api_key="none")
    stages = [serial(max_tokens=2), parallel([{"prompt": "="}, {"prompt": ":"}], max_tokens=3)]
    expected = text_of(speaker, "Q", stages=stages)
    for extra in ({"stages": stages}, {"stages": stages, "stream_options": {"branch_events": True}}):
        stream = client.completions.create(model=speaker.model, prompt="Q", temperature=0, stream=True, extra_body=extra)
        pieces = [choice.text for chunk in stream for choice in chunk.choices]
        assert sorted("".join(pieces)) == sorted(expected)
    whole = client.completions.create(model=speaker.model, prompt="Q", temperature=0, extra_body={"stages": stages})
    assert whole.choices[0].text == expected
    several = client.completions.create(model=speaker.model, prompt="Q", temperature=0, n=3, max_tokens=3, stream=True)
    texts = ["", "", ""]
    for chunk in several:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == ["so it is"] * 3


def test_a_chat_in_stages(server):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    fields = dict(model=server.model, temperature=0, messages=[{"role": "user", "content": "hi"}], extra_body={
        "ignore_eos": True,
        "stages": [serial(max_tokens=3), parallel([{"prompt": "<A>"}, {"prompt": "<B>"}], max_tokens=4),
                   serial(prompt="<C>", max_tokens=2)]})
    whole = client.chat.completions.create(**fields)
    text = whole.choices[0].message.content
    assert 0 < text.index("<A>") < text.index("<B>") < text.index("<C>")
    assert whole.usage.completion_tokens == 3 + 2 * 4 + 2
    stream = client.chat.completions.create(**fields, stream=True)
    assert "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices) == text


def test_a_client_that_leaves_ends_every_branch(launch):
    server = launch("--context", "2048", model="synthetic:smollm2-135m")
    stages = [parallel([{"prompt": "a", "max_tokens": 1}, {"prompt": "b"}, {"prompt": "c"}], max_tokens=1900)]
    client = server.send({"prompt": "x", "stream": True, "stream_options": {"branch_events": True}, "ignore_eos": True,
                          "stages": stages})
    data = b""
    while data.count(b'"event":"token"') < 6:  # the first branch has ended
        data += client.recv(65536)
    assert server.metric("espalier_sequences_running") >= 2
    client.close()
    wait_for(lambda: server.metric("espalier_sequences_running") == 0, "ended")
    server.wait_idle()
    server.stop()
