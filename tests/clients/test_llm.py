"""`llm`, Simon Willison's command, by its extra-openai-models.yaml."""
import json

import pytest

MODELS = """
- model_id: espalier
  model_name: {model}
  api_base: {url}/v1
- model_id: espalier-text
  model_name: {model}
  api_base: {url}/v1
  completion: true
"""
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def llm(smollm, run_client, tmp_path_factory):
    home = tmp_path_factory.mktemp("llm")
    (home / "extra-openai-models.yaml").write_text(MODELS.format(model=smollm.model, url=smollm.url))

    def run(*arguments):
        return run_client("llm", *arguments, LLM_USER_PATH=str(home))

    run.home = home
    return run


def test_the_models_are_listed(llm):
    assert "espalier" in llm("models", "list")


def test_a_stream_says_what_the_whole_answer_says(llm):
    options = ("-m", "espalier", "-s", "You are a helpful assistant.", "-o", "temperature", "0", "-o", "max_tokens", "24")
    streamed = llm(*options, QUESTION)
    assert "Paris" in streamed
    assert streamed == llm(*options, "--no-stream", QUESTION)


def test_a_conversation_goes_on_and_is_logged(llm, smollm):
    llm("-m", "espalier", "-o", "temperature", "0", "-o", "max_tokens", "12", QUESTION)
    llm("-c", "-o", "temperature", "0", "-o", "max_tokens", "12", "And of Italy?")
    rows = json.loads(llm("logs", "-n", "2", "--json"))
    first, second = sorted(rows, key=lambda row: row["id"])
    assert first["conversation_id"] == second["conversation_id"]
    assert second["input_tokens"] > first["input_tokens"] > 0
    assert first["output_tokens"] <= 12


def test_the_completion_endpoint(llm):
    answer = llm("-m", "espalier-text", "-o", "temperature", "0", "-o", "max_tokens", "8",
                 "The capital of France is")
    assert "Paris" in answer
