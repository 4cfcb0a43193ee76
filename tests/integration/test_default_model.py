"""The default model, as quickstart.sh serves it."""
import openai


def test_it_answers_a_question(smollm):
    client = openai.OpenAI(base_url=smollm.url + "/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    answer = client.chat.completions.create(model=smollm.model, messages=messages, max_tokens=24,
                                            temperature=0)
    assert "Paris" in answer.choices[0].message.content
    text = "".join(part.choices[0].delta.content or "" for part in client.chat.completions.create(
        model=smollm.model, messages=messages, max_tokens=24, temperature=0, stream=True))
    assert text == answer.choices[0].message.content


def test_eos_ends_and_is_not_shown(smollm):
    answer = smollm.post("/v1/chat/completions", {
        "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 200, "temperature": 0,
        "return_token_ids": True})[1]
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "<|im_end|>" not in choice["message"]["content"]
    assert smollm.post("/detokenize", {"tokens": choice["token_ids"][-1:]})[1]["prompt"] == "<|im_end|>"
    smollm.wait_idle()
