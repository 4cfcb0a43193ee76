"""litellm, by its openai, hosted_vllm and text-completion-openai providers."""
import asyncio

import litellm
import pytest

litellm.num_retries = 0
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def ask(server, provider="openai", **more):
    fields = {"max_tokens": 24, "temperature": 0, "messages": MESSAGES, **more}
    return litellm.completion(model=f"{provider}/{server.model}", api_base=server.url + "/v1",
                              api_key="none", **fields)


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_a_stream_says_what_the_whole_answer_says(server, provider):
    whole = ask(server, provider)
    chunks = list(ask(server, provider, stream=True, stream_options={"include_usage": True}))
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.choices[0].finish_reason == whole.choices[0].finish_reason
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(built.usage, count) == getattr(whole.usage, count)


def test_the_default_model_knows_paris(smollm):
    assert "Paris" in ask(smollm).choices[0].message.content


def test_text_completion(server):
    fields = {"model": f"text-completion-openai/{server.model}", "api_base": server.url + "/v1",
              "api_key": "none", "prompt": "The capital of France is", "max_tokens": 12, "temperature": 0}
    whole = litellm.text_completion(**fields)
    text = "".join(chunk.choices[0].text or "" for chunk in litellm.text_completion(**fields, stream=True)
                   if chunk.choices)
    assert text == whole.choices[0].text
    assert whole.usage.completion_tokens <= 12


def test_n_choices(server):
    answer = ask(server, n=3, temperature=1.5, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_sixteen_at_once(server):
    async def run():
        return await asyncio.gather(*[litellm.acompletion(
            model=f"openai/{server.model}", api_base=server.url + "/v1", api_key="none",
            messages=MESSAGES, max_tokens=8, temperature=0) for _ in range(16)])

    assert len({answer.choices[0].message.content for answer in asyncio.run(run())}) == 1


def test_errors_become_its_exceptions(tiny, locked):
    """Fallbacks to larger models hang on ContextWindowExceededError."""
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(tiny, messages=[{"role": "user", "content": "x" * 5000}])
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/nobody", api_base=tiny.url + "/v1", api_key="none",
                           messages=MESSAGES)
    with pytest.raises(litellm.BadRequestError):
        ask(tiny, temperature=-1)
    with pytest.raises(litellm.AuthenticationError):
        ask(locked)
