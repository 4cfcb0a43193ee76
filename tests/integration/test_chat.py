"""Chats over the API: templates by name, what they refuse, and the switches beside the messages."""
import json
import pathlib
import shutil
import subprocess

import pytest
from espalier_server import ESPALIER

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "data" / "golden" / "llama_ropescale_bf16"
USER = [{"role": "user", "content": "q"}]


@pytest.fixture(scope="module")
def text():
    """What a server's template makes of messages: tokens of synthetic:tiny stand for their bytes."""
    def read(server, messages, **fields):
        status, answer = server.post("/tokenize", {"messages": messages, **fields})
        assert status == 200, answer
        return server.post("/detokenize", {"tokens": answer["tokens"]})[1]["prompt"]
    return read


def refused(server, fields, path="/v1/chat/completions"):
    status, answer = server.post(path, {"max_tokens": 1, **fields})
    assert status == 400, answer
    return answer["error"]


def model_with_template(folder, jinja):
    """The golden Llama with another template: its directory."""
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(GOLDEN / name, folder / name)
    config = json.loads((GOLDEN / "tokenizer_config.json").read_text())
    config["chat_template"] = jinja
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


def template():
    return json.loads((GOLDEN / "tokenizer_config.json").read_text())["chat_template"]


# --- which template

def test_a_known_template_needs_no_warning(launch, tmp_path):
    server = launch(model=model_with_template(tmp_path, template()))
    assert "warning:" not in server.words()


def test_one_warning_names_what_a_changed_template_is_taken_for(launch, tmp_path):
    server = launch(model=model_with_template(tmp_path, "{# mine #}" + template()))
    lines = [line for line in server.words().splitlines() if "warning:" in line]
    assert len(lines) == 1 and "llama3" in lines[0] and "chat template" in lines[0]
    assert server.post("/v1/chat/completions", {"messages": USER, "max_tokens": 2})[0] == 200


@pytest.mark.parametrize("jinja", ["{{ messages[0].content }}", None])
def test_chat_without_a_known_template_is_refused(launch, tmp_path, jinja):
    folder = model_with_template(tmp_path, jinja)
    server = launch(model=folder)
    assert sum("--chat-template" in line for line in server.words().splitlines()) == 1
    error = refused(server, {"messages": USER})
    assert error["param"] == "messages" and "--chat-template" in error["message"]
    assert "--chat-template" in refused(server, {"messages": USER}, "/tokenize")["message"]
    assert server.complete(prompt="a", max_tokens=2)["choices"]
    server.stop()
    named = launch("--chat-template", "llama3", model=folder)
    assert "warning:" not in named.words()
    assert named.post("/v1/chat/completions", {"messages": USER, "max_tokens": 2})[0] == 200


def test_the_template_file_wins(launch, tmp_path, text):
    folder = model_with_template(tmp_path, "{{ messages[0].content }}")
    (tmp_path / "chat_template.jinja").write_text(template() + "\n")
    server = launch(model=folder)
    assert "warning:" not in server.words()
    assert text(server, USER).startswith("<|begin_of_text|><|start_header_id|>user")


def test_an_unknown_name_is_wrong_usage():
    for command in ("serve", "generate", "tokenize"):
        run = subprocess.run([ESPALIER, command, "--model", "synthetic:tiny", "--chat-template", "vicuna",
                              *(["--prompt", "a"] if command == "generate" else [])],
                             capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert run.returncode == 2
        assert "vicuna" in run.stderr and "mistral-v3" in run.stderr and "qwen3" in run.stderr


def test_bos_comes_once(launch, tmp_path):
    """The template writes it, and the tokenizer would add it to a prompt."""
    server = launch(model=model_with_template(tmp_path, template()))
    bos = server.post("/tokenize", {"prompt": ""})[1]["tokens"]
    assert len(bos) == 1
    for more in ({}, {"add_special_tokens": True}):
        tokens = server.post("/tokenize", {"messages": USER, **more})[1]["tokens"]
        assert tokens[:1] == bos and tokens.count(bos[0]) == 1


# --- the switches

def test_thinking(launch, text):
    server = launch("--chat-template", "qwen3")
    open_turn = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    empty = "<think>\n\n</think>\n\n"
    assert text(server, USER) == open_turn
    assert text(server, USER, enable_thinking=False) == open_turn + empty
    assert text(server, USER, chat_template_kwargs={"enable_thinking": False}) == open_turn + empty
    assert text(server, USER, enable_thinking=False, chat_template_kwargs={"enable_thinking": True}) == open_turn
    assert text(server, USER, chat_template_kwargs={"enable_thinking": None, "other": 1}) == open_turn
    fields = {"messages": USER, "max_tokens": 2, "chat_template_kwargs": {"enable_thinking": False}}
    status, answer = server.post("/v1/chat/completions", fields)
    assert status == 200
    assert answer["usage"]["prompt_tokens"] > server.post(
        "/v1/chat/completions", {**fields, "chat_template_kwargs": None})[1]["usage"]["prompt_tokens"]
    error = refused(server, {"messages": USER, "chat_template_kwargs": {"enable_thinking": 0}})
    assert error["param"] == "chat_template_kwargs.enable_thinking"
    assert refused(server, {"messages": USER, "chat_template_kwargs": []})["param"] == "chat_template_kwargs"
    assert refused(server, {"messages": USER, "chat_template": "{{ x }}"})["param"] == "chat_template"


def test_thoughts_of_earlier_answers_are_left_out(launch, text):
    server = launch("--chat-template", "qwen3")
    answer = {"role": "assistant", "content": "<think>\nlong\n</think>\n\nA"}
    assert text(server, [*USER, answer, *USER], add_generation_prompt=False) == (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nq<|im_end|>\n")
    apart = {"role": "assistant", "content": "A", "reasoning_content": "why"}
    assert text(server, [*USER, apart], add_generation_prompt=False).endswith(
        "<think>\nwhy\n</think>\n\nA<|im_end|>\n")


def test_a_date(launch, text):
    server = launch("--chat-template", "llama3.1")
    assert "Today Date: 26 Jul 2024\n\n" in text(server, USER)
    assert "Today Date: 1 Jan 1970\n\n" in text(server, USER, chat_template_kwargs={"date_string": "1 Jan 1970"})


def test_the_last_message_goes_on(launch, text):
    server = launch("--chat-template", "chatml")
    messages = [*USER, {"role": "assistant", "content": "The answer is"}]
    assert text(server, messages, continue_final_message=True, add_generation_prompt=False) == (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nThe answer is")
    error = refused(server, {"messages": messages, "continue_final_message": True})
    assert error["param"] == "continue_final_message" and "add_generation_prompt" in error["message"]


# --- what is refused

def test_a_templates_exception_is_a_400_with_its_words(launch):
    server = launch("--chat-template", "mistral-v3")
    alternate = "After the optional system message, conversation roles must alternate user/assistant/user/assistant/..."
    assert refused(server, {"messages": USER + USER}) == {
        "message": alternate, "type": "invalid_request_error", "param": "messages", "code": "invalid_value"}
    tool = {"role": "tool", "content": "42", "tool_call_id": "123456789"}
    assert "tool" in refused(server, {"messages": [*USER, tool]})["message"]
    assert server.post("/v1/chat/completions", {"messages": USER, "max_tokens": 2})[0] == 200


def test_results_of_tools(launch, text):
    server = launch("--chat-template", "qwen2.5")
    tool = {"role": "tool", "content": "42", "tool_call_id": "a"}
    assert "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n" in text(server, [*USER, tool])
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    error = refused(server, {"messages": [*USER, {"role": "assistant", "content": None, "tool_calls": [call]}, tool]})
    assert error["param"] == "messages[1].tool_calls"


def test_contents(launch, text):
    server = launch("--chat-template", "chatml")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turn = "<|im_start|>{}\n{}<|im_end|>\n"
    plain = {"add_generation_prompt": False}
    assert text(server, [{"role": "user", "content": parts}], **plain) == turn.format("user", "a\nb")
    assert text(server, [{"role": "user", "content": []}], **plain) == turn.format("user", "")
    for empty in ({"content": None}, {}, {"content": "", "tool_calls": []}, {"content": "", "refusal": None}):
        assert text(server, [*USER, {"role": "assistant", **empty}], **plain).endswith(turn.format("assistant", ""))
    assert text(server, [{"role": "developer", "content": "D"}], **plain) == turn.format("system", "D")
    for wrong, param in (({"role": "user"}, "messages[0].content"), ({"role": "user", "content": None}, "messages[0].content"),
                         ({"role": "user", "content": 3}, "messages[0].content"), ({"role": "function", "content": "1"}, "messages[0].role"),
                         ({"content": "x"}, "messages[0].role"),
                         ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content"),
                         ({"role": "assistant", "content": "x", "reasoning_content": 1}, "messages[0].reasoning_content")):
        assert refused(server, {"messages": [wrong]})["param"] == param
