"""Rows of docs/security.md that no other test shows: where the server listens, and what a request cannot make it do."""
import os
import pathlib
import re
import socket

import pytest

CHAT = "/v1/chat/completions"


def listening(process):
    """(address, port) of every TCP socket on which the process listens, as /proc writes them."""
    sockets = set()
    for name in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            sockets.add(os.readlink(f"/proc/{process.pid}/fd/{name}"))
        except OSError:
            pass
    found = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{process.pid}/net/{table}") as lines:
            for fields in map(str.split, list(lines)[1:]):
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                    found.append(tuple(fields[1].split(":")))
    return found


def test_one_socket_on_127_0_0_1(server):
    assert listening(server.process) == [("0100007F", f"{server.port:04X}")]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=10)


@pytest.mark.parametrize("fields", [
    {"chat_template": "{{ cycler.__init__.__globals__.os.popen('id').read() }}"},
    {"chat_template": "{% for i in range(10**9) %}x{% endfor %}"},
    {"chat_template_kwargs": {"chat_template": "{{ 7 * 7 }}", "messages": [], "bos_token": "x"}},
    {"chat_template": {"a": ["b"]}, "tool_choice": "none"},
])
def test_a_template_in_a_request_is_never_run(smollm, fields):
    question = {"messages": [{"role": "user", "content": "Hi {{ 7 * 7 }} {% raise %}"}], "max_tokens": 8,
                "temperature": 0, "return_token_ids": True}
    status, plain = smollm.post(CHAT, question)
    assert status == 200
    status, answer = smollm.post(CHAT, {**question, **fields})
    if status == 200:  # the field is one that does not exist here
        assert answer["prompt_token_ids"] == plain["prompt_token_ids"]
        assert answer["choices"][0]["message"] == plain["choices"][0]["message"]
    else:
        assert status == 400 and answer["error"]["param"] in fields


@pytest.mark.parametrize("part", ["image_url", "input_image", "video_url", "input_audio", "file"])
def test_no_url_is_fetched(server, part):
    with socket.create_server(("127.0.0.1", 0)) as target:
        url = f"http://127.0.0.1:{target.getsockname()[1]}/x"
        content = [{"type": "text", "text": "look"}, {"type": part, part: {"url": url}, "text": url}]
        status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": content}]})
        assert status == 400 and answer["error"]["param"].startswith("messages[0].content")
        target.settimeout(0.2)
        with pytest.raises(TimeoutError):
            target.accept()


def filled(head, unit, tail, size=2 << 20):
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


@pytest.mark.parametrize("body", [
    filled(b'{"prompt":[0', b",0", b"]}"), filled(b'{"prompt":[0', b",0", b"x]}"),
    filled(b'{"x":[{}', b",{}", b']'), filled(b'{"x":[{}', b",[]", b'],"prompt":7}'),
    filled(b'{"x":["a"', b',"a"', b',"prompt":"a"'), filled(b'{"x":"', b"\\u00e9", b'","prompt":7}'),
    filled(b'{"x":' * 60 + b"[0", b",0", b"]" + b"}" * 60), filled(b'{"x":' * 60 + b"[0", b",{}", b"]"),
    b'{"x":7' + b"".join(b',"%x":0' % i for i in range(200000)),
    filled(b'{"prompt":"a","temperature":0.', b"1", b"e}"), filled(b'{"messages":[{}', b",{}", b"]}"),
])
def test_the_largest_bodies_take_linear_time(server, body):
    """Quadratic ones take minutes, and the connection's patience is one."""
    status, answer = server.post("/v1/completions", body)
    assert status == 400 and answer["error"]["message"]


def test_the_tests_that_the_document_names_exist():
    root = pathlib.Path(os.environ["ESPALIER_ROOT"])
    text = (root / "docs" / "security.md").read_text()
    files = {path.name: path for path in root.glob("tests/*/*") if path.suffix in (".c", ".py")}
    named = re.findall(r"`(test_\w+\.(?:c|py)):(\w+)`", text)
    assert len(named) > 50
    for file, name in named:
        source = files[file].read_text()
        assert re.search(rf"^(def {name}\(|Test\(\w+, {name}[,)])", source, re.M), f"{file}:{name}"
    targets = re.findall(r"`(fuzz_\w+\.c)`", text)
    assert set(targets) == {name for name in files if name.startswith("fuzz_")}
    for path in re.findall(r"`((?:base|kvcache|model|server|tests)/[\w/]+\.\w+)`", text):
        assert (root / path).exists(), path
    sources = "".join(path.read_text() for folder in ("base", "model", "quant", "server", "traces")
                      for path in (root / folder).rglob("*.[ch]"))
    words = set(re.findall(r"\w+", sources))
    assert not [name for name in re.findall(r"`(\w+)`", text) if name not in words]
