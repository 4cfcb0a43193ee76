"""langchain-openai: ChatOpenAI and OpenAI, invoke, stream, batch, async."""
import asyncio
import uuid

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI

QUESTION = "What is the capital of France?"


def chat_of(server, **more):
    return ChatOpenAI(model=server.model, base_url=server.url + "/v1", api_key="none", temperature=0,
                      max_retries=0, **{"max_tokens": 24, **more})


def test_a_stream_says_what_the_whole_answer_says(server):
    chat = chat_of(server, stream_usage=True)
    # Salts of their own: each meets an empty cache, so the usage is the same in all its fields.
    whole = chat.invoke(QUESTION, extra_body={"cache_salt": uuid.uuid4().hex})
    parts = list(chat.stream(QUESTION, extra_body={"cache_salt": uuid.uuid4().hex}))
    gathered = parts[0]
    for part in parts[1:]:
        gathered += part
    assert gathered.content == whole.content
    assert gathered.usage_metadata == whole.usage_metadata
    usage = whole.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens"] <= 24


def test_a_chain_with_a_template(smollm):
    chain = ChatPromptTemplate.from_messages([
        ("system", "You are a helpful assistant."), ("user", "What is the capital of {country}?"),
    ]) | chat_of(smollm) | StrOutputParser()
    assert "Paris" in chain.invoke({"country": "France"})


def test_stop(smollm):
    whole = chat_of(smollm).invoke(QUESTION).content
    cut = chat_of(smollm).invoke(QUESTION, stop=[" of"])
    assert cut.content == whole[:whole.index(" of")]
    assert cut.response_metadata["finish_reason"] == "stop"


def test_batch_and_async(server):
    chat = chat_of(server, max_tokens=8)
    whole = [chat.invoke(f"Count to {i}.").content for i in range(8)]
    batch = [answer.content for answer in chat.batch([f"Count to {i}." for i in range(8)])]

    async def one(i):
        return "".join([part.content async for part in chat.astream(f"Count to {i}.")])

    async def run():
        return await asyncio.gather(*[one(i) for i in range(8)])

    assert batch == whole == asyncio.run(run())


def test_the_completion_model(server):
    """Its default is several prompts in one request, and n of each."""
    model = OpenAI(model=server.model, base_url=server.url + "/v1", api_key="none", temperature=0,
                   max_tokens=12, max_retries=0)
    prompts = ["The capital of France is", "One, two, three,"]
    whole = [model.invoke(prompt) for prompt in prompts]
    assert ["".join(model.stream(prompt)) for prompt in prompts] == whole
    both = model.generate(prompts)
    assert [answer[0].text for answer in both.generations] == whole
    assert both.llm_output["token_usage"]["completion_tokens"] <= 24


def test_an_error_has_our_words(tiny):
    with pytest.raises(Exception, match="maximum context length is"):
        chat_of(tiny).invoke("x" * 5000)
