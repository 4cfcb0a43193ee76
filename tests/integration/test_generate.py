"""`espalier generate` in stages: on a pipe, as JSON and on a terminal the answer is the one that HTTP gives."""
import json
import signal
import subprocess

import pytest
import scripted_model
from espalier_server import ESPALIER, PATIENCE, SLOW_MODEL, Server
from terminal import Screen, Terminal
from test_branches import SCRIPT, parallel, serial

EXACT = ["--weights", "native", "--kv-type", "f32", "--context", "1024"]


def command(model, *options):
    return [ESPALIER, "generate", "--model", str(model), "--threads", "1", *options]


def generate(model, *options, **more):
    return subprocess.run(command(model, *options), stdout=more.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
                          timeout=PATIENCE, **more)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scripted")
    scripted_model.make(directory, SCRIPT)
    server = Server(*EXACT, model=str(directory))
    server.directory = directory
    yield server
    server.wait_idle()
    server.stop()


@pytest.fixture
def stage_file(tmp_path):
    def write(value):
        path = tmp_path / "stages.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(path)
    return write


CASES = {
    "each form": ("Q", [serial(max_tokens=2), parallel([{"prompt": "F:"}, {"prompt": "A=", "max_tokens": 1}], max_tokens=8),
                        serial(prompt="\n", max_tokens=1)]),
    "parallel at first and twice": ("?", [parallel([{"prompt": "a="}, {"prompt": "b:"}]),
                                          parallel([{"prompt": "c="}, {"prompt": "d="}]), serial(prompt="Q")]),
    "stops within a token": ("Q", [serial(max_tokens=9, stop=["\n\n", "th>"]),
                                   parallel([{"prompt": "Q"}, {"prompt": ":"}], stop=["th>"]), serial(prompt="\n")]),
    "a cut token goes on": ("Q", [serial(max_tokens=9, stop="hat"), serial(prompt="=", max_tokens=3)]),
    "nothing sampled": ("Q", [parallel([{}, {"prompt": "x"}], max_tokens=0), serial(prompt="=", max_tokens=1)]),
    "an outline": ("L", [serial(max_tokens=9, stop="\n\n"),
                         parallel({"from": "outline", "prompt": "\n{index} {item}=", "max_tokens": 1, "max": 2})]),
    "an outline without items": ("Q", [serial(max_tokens=9), parallel({"from": "outline", "prompt": "{item}", "max_tokens": 1}),
                                       serial(prompt="=", max_tokens=1)]),
    "a grammar": ("M", {"branching": {"grammar": "multiverse"}}),
    "malformed": ("X", {"branching": {"grammar": "multiverse"}}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_that_of_http(speaker, stage_file, name):
    prompt, stages = CASES[name]
    fields = stages if isinstance(stages, dict) else {"stages": stages}
    wanted = speaker.complete(prompt=prompt, temperature=0, max_tokens=200, return_token_ids=True, timings=True, **fields)
    (choice,) = wanted["choices"]
    options = [*EXACT, "--prompt", prompt, "--max-tokens", "200", "--stages", stage_file(stages)]
    plain = generate(speaker.directory, *options)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.decode() == choice["text"] + "\n"
    found = json.loads(generate(speaker.directory, *options, "--json").stdout)
    assert {key: found[key] for key in ("text", "token_ids", "finish_reason")} == \
        {key: choice[key] for key in ("text", "token_ids", "finish_reason")}
    assert found["usage"].items() <= wanted["usage"].items()
    flags = ("malformed_branching", "empty_outline", "outline_beyond")
    assert [found["timings"].get(flag) for flag in flags] == [wanted["timings"].get(flag) for flag in flags]
    branches = [branch for stage in found["stages"] for branch in stage["branches"]]
    assert "".join(branch["text"] for branch in branches) == choice["text"]
    assert [token for branch in branches for token in branch["token_ids"]] == choice["token_ids"]
    assert (b"warning: " in plain.stderr) == any(wanted["timings"].get(flag) for flag in flags)


def test_seeds_and_the_default_of_max_tokens_are_those_of_http(shared, stage_file):
    stages = {"stages": [serial(), parallel([{"prompt": "a"}, {"prompt": "b"}, {}]), serial(prompt="c", max_tokens=9)]}
    texts = set()
    for seed in (7, 8):
        wanted = shared.complete(prompt="hi", temperature=1, seed=seed, **stages)["choices"][0]["text"]
        found = generate("synthetic:tiny", "--prompt", "hi", "--temperature", "1", "--seed", str(seed),
                         "--stages", stage_file(stages))
        assert found.stdout.decode() == wanted + "\n"
        texts.add(wanted)
    assert len(texts) == 2


# --- a terminal


@pytest.fixture
def terminal():
    opened = []

    def open_one(*arguments, **more):
        opened.append(Terminal(*arguments, **more))
        return opened[-1]
    yield open_one
    for one in opened:
        one.close()


LONG = [serial(max_tokens=2), parallel([{"prompt": "\n" + "Q" * 30 + " :"}, {"prompt": "\nword" * 9 + " ="}, {"prompt": "\nM"}], max_tokens=8),
        serial(prompt="\nL", max_tokens=9)]


def on_terminal(terminal, speaker, path, **more):
    end = terminal(command(speaker.directory, *EXACT, "--prompt", "Q", "--stages", path), **more)
    end.read()
    assert end.status == 0, end.errors()
    assert end.settings_now() == end.settings
    return end


def test_columns_side_by_side_give_way_to_the_text(terminal, speaker, stage_file):
    text = speaker.complete(prompt="Q", temperature=0, stages=LONG)["choices"][0]["text"]
    end = on_terminal(terminal, speaker, stage_file(LONG), width=81, height=24)
    output = end.output.decode()
    screen, together = Screen(81, 24), False
    for frame in output.replace("\x1b[?7h", "\x1b[?7h\0").split("\0"):
        screen.feed(frame)
        shown = screen.lines[screen.top:]
        heads = [i for i, line in enumerate(shown) if [part.strip() for part in line.split(" | ")] == ["1", "2", "3"]]
        body = [line.split(" | ") for line in shown[heads[0] + 1:]] if heads else []
        together |= any("Q" in line[0] and "word" in line[1] for line in body if len(line) == 3) and \
            any("path" in line[0] for line in body) and any("for" in line[1] for line in body if len(line) == 3)
    assert together, output
    assert [line.rstrip() for line in screen.lines] == [*[line.rstrip() for line in text.split("\n")], ""]


@pytest.mark.parametrize("width, height", [(1, 1), (2, 40), (3, 3), (10, 4), (40, 2), (65535, 65535), (0, 0)])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_any_size_and_locale(terminal, speaker, stage_file, width, height, locale):
    text = speaker.complete(prompt="Q", temperature=0, stages=LONG)["choices"][0]["text"]
    output = on_terminal(terminal, speaker, stage_file(LONG), width=width, height=height, LC_ALL=locale).output.decode()
    assert output.endswith(text.split("\n")[-1] + "\r\n")
    assert "\x1b[?7l" in output and output.rindex("\x1b[?7h") > output.rindex("\x1b[?7l")


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor(terminal, speaker, stage_file, kind):
    text = speaker.complete(prompt="Q", temperature=0, stages=LONG)["choices"][0]["text"]
    end = on_terminal(terminal, speaker, stage_file(LONG), TERM=kind)
    assert end.output.decode().replace("\r\n", "\n") == text + "\n"


def test_control_c_leaves_the_terminal_in_order(terminal, stage_file):
    path = stage_file([parallel([{"prompt": "a"}, {"prompt": "b"}], max_tokens=900)])
    end = terminal(command(SLOW_MODEL, "--prompt", "Q", "--ignore-eos", "--stages", path))
    end.read(until=b"\x1b[?7h")
    end.press(b"\x03")
    end.read()
    assert end.status == -signal.SIGINT, end.errors()
    assert end.settings_now() == end.settings
    assert end.output.rindex(b"\x1b[?7h") > end.output.rindex(b"\x1b[?7l")
    assert end.output.rindex(b"\x1b[0m") > end.output.rindex(b"\x1b[1m")
    assert end.output.endswith(b"\r\n"), "the shell's prompt begins a line"
    assert b"\x1b[J" in end.output, "the columns have given way"


# --- the skeleton


def test_outline_is_a_list_and_then_its_items(tmp_path):
    scripted_model.make(tmp_path, {**SCRIPT, ".": [" one", "\n2. two", "\n\nmore"], "s": [" it"], ",": [" fine"]})
    found = generate(tmp_path, *EXACT, "--outline", "--prompt", "Why?", "--json")
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["text"] == ("Outline:\n1. one\n2. two" "\n\n**one**\nThis means it" "\n\n**two**\nThis means it"
                              "\n\nIn summary, fine")
    assert [(stage["type"], len(stage["branches"])) for stage in answer["stages"]] == \
        [("serial", 1), ("parallel", 2), ("serial", 1)]


def test_outline_of_the_default_model(smollm):
    found = generate(smollm.path, "--outline", "--prompt", "Give five tips for a garden.", "--json")
    answer = json.loads(found.stdout)
    assert answer["stages"][1]["type"] == "parallel" and 3 <= len(answer["stages"][1]["branches"]) <= 8
    assert all(len(branch["token_ids"]) > 12 for branch in answer["stages"][1]["branches"])


# --- refusals

REFUSED = [
    ("[1,", "it is not valid JSON: ']' expected near end of file (line 1, column 3, byte 3)"),
    ("", "it is not valid JSON"),
    ("3", "'[' or '{' expected"),
    ("[" * 200, "nests deeper than"),
    ('{"stages": [], "stages": []}', "duplicate object key"),
    ({"prompt": "a"}, 'found the field "prompt"; allowed is a list of stages, or an object with "stages" or "branching"'),
    ({}, 'found no stages; allowed is a list of stages, or an object with "stages" or "branching"'),
    ([], "stages holds 0 stages; 1 to 16 are allowed"),
    ([7], "stages[0] must be an object"),
    ([serial(promt="x")], "stages[0].promt is not allowed; a serial stage takes type, prompt, max_tokens, stop"),
    ([parallel([{"max_tokens": -1}])], "stages[0].branches[0].max_tokens"),
    ([serial(), parallel([{}, {"prompt": [1, 512]}])],
     "stages[1]: branches[1]: prompt[1] is 512; the model has the token ids 0 to 511"),
    ([serial(max_tokens=5000)], "the longest path through the stages may have 5002 tokens (2 in the prompt); at most 2048"),
    ({"stages": [serial()], "branching": {"grammar": "npr"}}, "give stages or branching, not both"),
    ({"branching": {"grammar": "nobody"}}, "branching.grammar"),
]


@pytest.mark.parametrize("content, words", REFUSED)
def test_a_refused_file_is_named_with_its_field(stage_file, content, words):
    path = stage_file(content)
    found = generate("synthetic:tiny", "--prompt", "hi", "--stages", path)
    assert found.returncode == 1 and found.stdout == b""
    (line,) = found.stderr.decode().splitlines()
    assert line.startswith(f"espalier: error: {path}: ") and words in line, line


def test_files_that_cannot_be_read(tmp_path):
    for path, words in ((tmp_path / "none.json", "No such file"), (tmp_path, "Is a directory"), ("/dev/zero", "larger than")):
        found = generate("synthetic:tiny", "--prompt", "hi", "--stages", str(path))
        assert found.returncode == 1 and found.stdout == b""
        assert f"espalier: error: {path}: ".encode() in found.stderr and words.encode() in found.stderr, found.stderr


def test_wrong_usage(stage_file):
    path = stage_file([serial()])
    for options in (["--stages", path, "--outline"], ["--stages"], ["--outline", "--system", "a"]):
        found = generate("synthetic:tiny", "--prompt", "hi", *options)
        assert found.returncode == 2 and found.stdout == b"" and b" --" in found.stderr, found.stderr
    found = generate("synthetic:tiny", "--prompt", "hi", "--chat", "--chat-template", "chatml", "--stages", path)
    assert found.returncode == 1 and b"stages[0].max_tokens is required" in found.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_answer_that_cannot_be_written(stage_file, options):
    with open("/dev/full", "wb") as full:
        found = generate("synthetic:tiny", "--prompt", "hi", "--stages", stage_file([parallel([{}, {}])]), *options, stdout=full)
    assert found.returncode == 1
    assert b"espalier: error: standard output: " in found.stderr, found.stderr
