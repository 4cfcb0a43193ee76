"""schemathesis on /openapi.json, and what it cannot see: the events of streams, and which fields the sources read."""
import json
import re

import jsonschema_rs
import openai
import pytest
from conftest import HERE, ROOT, serve

SECONDS = 30


@pytest.fixture(scope="module")
def small():
    """Limits of its own, which the document must name, and answers that end soon."""
    yield from serve("--context", "256", "--max-n", "4", "--max-prompts", "4", "--max-sequences", "8")


@pytest.fixture(scope="module")
def document(small):
    status, headers, text = small.request("GET", "/openapi.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    return json.loads(text)


def test_schemathesis_finds_nothing(small, run_client, tmp_path):
    """Every check but positive_data_acceptance, for which schemathesis_hooks.py has a finer one."""
    output = run_client(
        "schemathesis", "run", small.url + "/openapi.json", "--phases", "examples,coverage,fuzzing",
        "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-time", SECONDS, "--seed", 1,
        "--output-sanitize", "false", "--report-dir", tmp_path,
        SCHEMATHESIS_HOOKS="schemathesis_hooks", PYTHONPATH=str(HERE), timeout=SECONDS + 270)
    generated = int(re.search(r"(\d+) generated", output).group(1))
    assert generated > 200, output


def test_it_finds_that_a_key_is_asked_for(locked, run_client, tmp_path):
    """Each operation with the key, without one and with a wrong one."""
    run_client("schemathesis", "run", locked.url + "/openapi.json", "-H", "Authorization: Bearer sesame",
               "--phases", "coverage", "--checks", "ignored_auth,not_a_server_error,status_code_conformance",
               "--mode", "positive", "--max-examples", 20, "--report-dir", tmp_path, "--seed", 1,
               "--exclude-path-regex", "completions")


def validator(document, name):
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


@pytest.mark.parametrize("path, kind, fields", [
    ("/v1/completions", "Completion", {"prompt": ["abc", "d"], "logprobs": 2, "echo": True}),
    ("/v1/completions", "Completion", {"prompt": [5, 6, 7], "max_tokens": 0, "echo": True}),
    ("/v1/chat/completions", "Chat", {"messages": [{"role": "user", "content": "a"}], "logprobs": True,
                                      "top_logprobs": 3}),
    ("/v1/chat/completions", "Chat", {"messages": [{"role": "user", "content": "a"}]}),
])
@pytest.mark.parametrize("more", [
    {}, {"return_token_ids": True}, {"n": 3}, {"stop": ["e"], "include_stop_str_in_output": True}])
def test_answers_and_events_keep_to_their_schemas(small, document, path, kind, fields, more):
    fields = {"max_tokens": 8, "temperature": 0, **fields, **more}
    status, answer = small.post(path, fields)
    assert status == 200, answer
    validator(document, kind).validate(answer)
    events = small.events(path, **fields, stream_options={"include_usage": True, "continuous_usage_stats": True})
    for event in events + small.events(path, **fields):
        validator(document, kind + "Chunk").validate(event)


@pytest.mark.parametrize("path, kind, fields", [
    ("/v1/completions", "Completion", {"prompt": "abc", "logprobs": 2}),
    ("/v1/chat/completions", "Chat", {"messages": [{"role": "user", "content": "a"}], "logprobs": True})])
def test_answers_in_stages_keep_to_their_schemas(small, document, path, kind, fields):
    fields |= {"return_token_ids": True, "stages": [
        {"type": "serial", "max_tokens": 4},
        {"type": "parallel", "branches": {"from": "outline", "prompt": "{item}", "max": 2}, "max_tokens": 4},
        {"type": "parallel", "branches": [{"prompt": "x"}, {"prompt": "y"}], "max_tokens": 4}]}
    status, answer = small.post(path, {**fields, "timings": True})
    assert status == 200, answer
    assert answer["timings"]["empty_outline"] is True
    validator(document, kind).validate(answer)
    for options in ({}, {"branch_events": True, "timings": True}):
        for event in small.events(path, **fields, stream_options=options):
            validator(document, kind + "Chunk").validate(event)
            assert not options or "espalier" in event or "timings" in event or event["choices"][0]["finish_reason"]


def test_the_limits_are_this_servers(document, small):
    schemas = document["components"]["schemas"]
    assert schemas["Generation"]["properties"]["n"]["maximum"] == 4
    assert schemas["Model"]["enum"] == [small.model, None]
    client = openai.OpenAI(base_url=small.url + "/v1", api_key="none")
    validator(document, "Models").validate(json.loads(client.models.with_raw_response.list().text))


def test_every_field_that_the_sources_read_is_documented(document):
    """The other direction is tests/server/test_openapi.c."""
    read = set()
    for source in (ROOT / "server").glob("request_*.c"):
        text = source.read_text()
        read |= set(re.findall(r'json_(?:field|object_get)\(request->root, "(\w+)"', text))
        read |= set(re.findall(r'FIELD\("(\w+)"', text))
        for table in re.findall(r"unsupported\[\] = \{(.*?)\};", text, re.S):
            read |= set(re.findall(r'\{"(\w+)"', table))
    documented = set(re.findall(r'"(\w+)":', json.dumps(document["components"]["schemas"])))
    assert {"n", "seed", "logit_bias", "stream_options", "suffix"} <= read
    assert read <= documented, read - documented
