"""The official openai client: sync, async, 64 streams at once."""
import asyncio
import uuid

import openai
import pytest

QUESTION = [{"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]


def client_of(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)


def text_of(choice):
    """Of a whole answer's choice or a stream's, of either endpoint."""
    if hasattr(choice, "text"):
        return choice.text
    return (choice.message if hasattr(choice, "message") else choice.delta).content or ""


def ask(client, server, chat, **more):
    fields = {"model": server.model, "max_tokens": 20, "temperature": 0, **more}
    if chat:
        return client.chat.completions.create(messages=QUESTION, **fields)
    return client.completions.create(prompt="The capital of France is", **fields)


@pytest.mark.parametrize("chat", [False, True])
def test_a_stream_says_what_the_whole_answer_says(server, chat):
    client = client_of(server)
    # Salts of their own: each meets an empty cache, so the usage is the same in all its fields.
    whole = ask(client, server, chat, extra_body={"cache_salt": uuid.uuid4().hex})
    parts = list(ask(client, server, chat, stream=True, stream_options={"include_usage": True},
                     extra_body={"cache_salt": uuid.uuid4().hex}))
    assert "".join(text_of(part.choices[0]) for part in parts[:-1]) == text_of(whole.choices[0])
    assert [part.choices[0].finish_reason for part in parts[:-2]] == [None] * (len(parts) - 2)
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert parts[-1].choices == [] and parts[-1].usage == whole.usage
    assert all(part.usage is None for part in parts[:-1])
    assert len({part.id for part in parts}) == 1 and {part.model for part in parts} == {server.model}
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_the_default_model_knows_paris(smollm):
    for chat in (False, True):
        assert "Paris" in text_of(ask(client_of(smollm), smollm, chat).choices[0])


def test_n_and_a_seed(server):
    client = client_of(server)
    more = {"n": 3, "seed": 5, "temperature": 1.2}
    whole = ask(client, server, True, **more)
    texts = {}
    for part in ask(client, server, True, stream=True, **more):
        choice = part.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + text_of(choice)
    assert texts == {choice.index: text_of(choice) for choice in whole.choices}
    assert len(set(texts.values())) > 1
    assert whole.usage.completion_tokens <= 60


def test_the_stream_helper_gathers_the_answer(smollm):
    client = client_of(smollm)
    with client.chat.completions.stream(model=smollm.model, messages=QUESTION, temperature=0,
                                        max_completion_tokens=200) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert deltas == text_of(final.choices[0]) == text_of(ask(client, smollm, True, max_tokens=200).choices[0])
    assert final.choices[0].finish_reason == "stop"


def test_models_and_raw_headers(tiny):
    client = client_of(tiny)
    assert [model.id for model in client.models.list()] == [tiny.model]
    raw = client.completions.with_raw_response.create(
        model=tiny.model, prompt="x", max_tokens=1, extra_headers={"X-Request-Id": "my-own-id"})
    assert raw.headers["x-request-id"] == "my-own-id"
    assert raw.parse().usage.completion_tokens == 1


def test_errors_become_the_clients_exceptions(tiny, locked):
    client = client_of(tiny)
    with pytest.raises(openai.BadRequestError, match="maximum context length is") as caught:
        ask(client, tiny, True, max_tokens=10**6)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        ask(client, tiny, False, model="nobody")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, tiny, False, temperature=-1, stream=True)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        client_of(locked, "wrong").models.list()
    assert client_of(locked, "sesame").models.list().data


def test_leaving_a_stream_early_frees_its_sequence(tiny):
    with ask(client_of(tiny), tiny, False, max_tokens=1500, stream=True,
             extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))
    tiny.wait_idle()


def test_async_64_streams_at_once(server):
    """Of both endpoints, each with words of its own; each says what its whole answer said."""
    def question(i):
        fields = {"model": server.model, "max_tokens": 4 + i % 9, "temperature": 0,
                  "extra_body": {"ignore_eos": True}}
        if i % 2:
            return "chat", {**fields, "messages": [{"role": "user", "content": f"Count to {i}."}]}
        return "text", {**fields, "prompt": f"{i} and {i + 1} are"}

    async def whole(client, i):
        kind, fields = question(i)
        api = client.chat.completions if kind == "chat" else client.completions
        answer = await api.create(**fields)
        return text_of(answer.choices[0]), answer.usage.completion_tokens

    async def streamed(client, i):
        kind, fields = question(i)
        api = client.chat.completions if kind == "chat" else client.completions
        text, usage = "", None
        async for part in await api.create(**fields, stream=True, stream_options={"include_usage": True}):
            if part.choices:
                text += text_of(part.choices[0])
            usage = part.usage
        return text, usage.completion_tokens

    async def run():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            return (await asyncio.gather(*[streamed(client, i) for i in range(64)]),
                    await asyncio.gather(*[whole(client, i) for i in range(64)]))

    streams, answers = asyncio.run(run())
    assert streams == answers
    assert [tokens for _, tokens in streams] == [4 + i % 9 for i in range(64)]
