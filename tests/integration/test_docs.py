"""The commands of docs/branches.md and README.md do as typed what is said beside them, on a server of the default model;
its tables name the fields that the server takes."""
import json
import os
import pathlib
import re
import subprocess

import pytest
from espalier_server import ESPALIER, PATIENCE, parse_events

ROOT = pathlib.Path(os.environ["ESPALIER_ROOT"])
PAGE = (ROOT / "docs" / "branches.md").read_text()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


# A command stands between blank lines, what it shows in the comment before it.
COMMANDS = [tuple(part.strip().split("\n", 1)) for block in blocks(PAGE, "bash") for part in block.split("\n\n")]
NAMED = dict(COMMANDS)


def run(server, command):
    """What a shell prints for the command; the server's own port and this build stand for those of the page."""
    assert "127.0.0.1:8000" in command or "build/espalier" in command, command
    command = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("build/espalier", ESPALIER)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=5 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text):
    """JSON documents one behind the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


@pytest.fixture(scope="module")
def shown(smollm):
    """What the command whose comment has these words showed; each is typed once."""
    outputs = {}

    def show(words):
        (comment,) = [comment for comment in NAMED if words in comment]
        if comment not in outputs:
            outputs[comment] = run(smollm, NAMED[comment])
        return outputs[comment]
    return show


def answers(output):
    return parse_events(output) if "data: " in output else documents(output)


def test_the_page_has_commands():
    assert len(COMMANDS) == len(NAMED) >= 15, "each with a comment of its own"
    assert all(comment.startswith("# ") for comment in NAMED)


@pytest.mark.parametrize("comment", NAMED)
def test_a_command_works_as_typed(smollm, shown, comment):
    output = shown(comment)
    if "curl" not in NAMED[comment]:
        assert output.strip()
        return
    assert answers(output)
    refusal = re.match(r"# 400 (\w+):", comment)
    for document in answers(output):
        if refusal:
            assert document["error"]["code"] == refusal[1], document
        else:
            assert "error" not in document and "choices" in document, document
    smollm.wait_idle()


def test_several_answers(shown):
    (said,) = answers(shown("Four answers"))
    assert [choice["index"] for choice in said["choices"]] == [0, 1, 2, 3]
    assert said["usage"]["prompt_tokens"] == 7
    assert said["usage"]["completion_tokens"] <= 32


def test_stages(shown):
    text = answers(shown("For and against"))[0]["choices"][0]["text"]
    assert re.fullmatch(r"\nFor:.*\nAgainst:.*\nSo.*", text, re.S)
    text = answers(shown("A list first"))[0]["choices"][0]["text"]
    assert text.count("\n\nThis helps because") >= 2 and "\n\nIn short," in text
    text = answers(shown("The same in a chat"))[0]["choices"][0]["message"]["content"]
    assert "\n\n2. " in text and text.count(": for example,") >= 2 and "\n\nIn short," in text


def test_the_openai_client(smollm, capsys):
    (program,) = blocks(PAGE, "python")
    exec(program.replace("127.0.0.1:8000", f"127.0.0.1:{smollm.port}"), {})
    assert re.fullmatch(r"Cats.*\nDogs.*\nSo.*\n", capsys.readouterr().out, re.S)


def test_streams(shown):
    reading = answers(shown("In reading order"))
    assert not [event for event in reading if "espalier" in event]
    decoded = answers(shown("As it is decoded"))
    told = [event["espalier"]["event"] for event in decoded if "espalier" in event]
    assert told.count("fork") == 2 and told.count("join") == 1 and told.count("token") > 3
    assert decoded[-1]["choices"] == [] and decoded[-1]["timings"]["steps"] > 0
    assert decoded[-1]["usage"]["prompt_tokens"] == 7


def test_token_ids_are_as_long_as_the_text(smollm, shown):
    (said,) = answers(shown("Which tokens"))
    (choice,) = said["choices"]
    assert smollm.post("/detokenize", {"tokens": choice["token_ids"]})[1]["prompt"] == choice["text"]
    assert said["usage"]["prompt_tokens"] == len(choice["prompt_token_ids"])
    assert said["usage"]["completion_tokens"] <= 10 < len(choice["token_ids"])


def test_the_second_finds_the_first(shown):
    found = [said["usage"]["prompt_tokens_details"]["cached_tokens"] for said in answers(shown("The first computes"))]
    assert found == [0, 32]


def test_grammars_fork(shown):
    for words in ("A preset", "Tags of your own"):
        (said,) = answers(shown(words))
        assert said["timings"]["steps"] < said["usage"]["completion_tokens"], "two tokens came in one step"
        assert "malformed_branching" not in said["timings"]


def test_presets_are_those_of_the_table():
    source = (ROOT / "server" / "tag_grammar.c").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)?) \| (`.+?) \| (`.+?) \| .* \|$", PAGE, re.M)
    for column, preset in enumerate(("multiverse", "npr")):
        tags = {}
        for names, *cells in rows:
            tags.update(zip(re.findall(r"\w+", names), re.findall(r"`(.+?)`", cells[column]), strict=True))
        definition = re.search(rf'\{{"{preset}",(.*?)\}}\}}', source + "}", re.S)[1]
        assert tags == dict(re.findall(r'\.(\w+) = "(.*?)"', definition))


def test_tables_name_the_fields(smollm):
    def names(title):
        table = re.search(rf"^\| {title} \|.*\n\| -.*\n((?:\|.*\n)+)", PAGE, re.M)[1]
        return set(re.findall(r"^\| `(\w+)`", table, re.M))

    def taken(**fields):
        status, said = smollm.post("/v1/completions", {"prompt": "Hi", **fields})
        assert status == 400
        return set(re.findall(r"\w+", said["error"]["message"].split(" takes ")[1]))
    wrong = {"nothing": 1}
    serial, parallel = {"type": "serial"}, {"type": "parallel", "branches": [{}]}
    assert taken(stages=[{**serial, **wrong}]) | taken(stages=[{**parallel, **wrong}]) == names("field of a stage")
    assert taken(stages=[{**parallel, "branches": [wrong]}]) == names("field of a branch")
    outline = {"from": "outline", "prompt": "{item}"}
    assert taken(stages=[serial, {**parallel, "branches": {**outline, **wrong}}]) == names("field of an outline")


def test_readme_branches(smollm):
    commands = [block for block in blocks((ROOT / "README.md").read_text(), "sh") if '"stages"' in block]
    assert commands
    for command in commands:
        for said in documents(run(smollm, command)):
            assert said["choices"][0]["message"]["content"]
