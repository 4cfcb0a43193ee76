"""The official openai client, unmodified, against both endpoints."""
import asyncio

import openai
import pytest
from conftest import QUESTION


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


MESSAGES = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Hello!"}]


def test_models(server, client):
    models = client.models.list().data
    assert [model.id for model in models] == [server.model]
    assert models[0].max_model_len > 0


def test_completion_and_its_stream_agree(server, client):
    whole = client.completions.create(model=server.model, prompt="One two", max_tokens=20,
                                      temperature=0)
    parts = list(client.completions.create(model=server.model, prompt="One two", max_tokens=20,
                                           temperature=0, stream=True,
                                           stream_options={"include_usage": True}))
    assert "".join(part.choices[0].text for part in parts[:-1]) == whole.choices[0].text
    assert parts[-1].choices == [] and parts[-1].usage == whole.usage
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_chat_and_its_stream_agree(server, client):
    whole = client.chat.completions.create(model=server.model, messages=MESSAGES, max_tokens=20,
                                           temperature=0)
    parts = list(client.chat.completions.create(model=server.model, messages=MESSAGES,
                                                max_tokens=20, temperature=0, stream=True))
    assert parts[0].choices[0].delta.role == "assistant"
    assert all(part.usage is None for part in parts)
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == whole.choices[0].message.content
    assert whole.choices[0].message.role == "assistant"


def test_n_choices_each_finish(server, client):
    stream = client.chat.completions.create(model=server.model, messages=MESSAGES, max_tokens=12,
                                            n=4, seed=7, stream=True)
    texts, reasons = {}, {}
    for part in stream:
        choice = part.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert sorted(texts) == sorted(reasons) == [0, 1, 2, 3]
    assert len(set(texts.values())) > 1, "branches draw their own tokens"
    again = client.chat.completions.create(model=server.model, messages=MESSAGES, max_tokens=12,
                                           n=4, seed=7)
    assert {c.index: c.message.content for c in again.choices} == texts


def test_errors_become_the_clients_exceptions(server, client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=server.model, prompt="x", max_tokens=10**6)
    assert "maximum context length is" in caught.value.message
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="nobody", prompt="x")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"


def test_leaving_a_stream_early(server, client):
    stream = client.completions.create(model=server.model, prompt="x", max_tokens=1500,
                                       extra_body={"ignore_eos": True}, stream=True)
    next(iter(stream))
    stream.close()
    server.wait_idle()


def test_64_streams_at_once_say_what_one_says(server):
    async def one(client):
        text = ""
        async for part in await client.completions.create(
                model=server.model, stream=True, prompt=QUESTION["prompt"], temperature=0,
                max_tokens=QUESTION["max_tokens"], extra_body={"ignore_eos": True}):
            text += part.choices[0].text
        return text

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none") as client:
            return await asyncio.gather(*[one(client) for _ in range(64)])

    assert set(asyncio.run(all_of_them())) == {server.answer}
