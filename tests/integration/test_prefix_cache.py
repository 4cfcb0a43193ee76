"""What a request finds of those before it, as a client sees it: fewer tokens to compute, the same answer."""
TEXT = "A garden in the north wants plants that bear the wind, the wet and a short summer. " * 8


def ask(server, prompt, **fields):
    answer = server.complete(prompt=prompt, max_tokens=12, temperature=0, ignore_eos=True, logprobs=2, **fields)
    return answer["choices"], answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["usage"]["prompt_tokens"]


def computed(server):
    return server.metric("espalier_prompt_tokens_total") - server.metric("espalier_cached_prompt_tokens_total")


def test_a_second_request_is_found_and_answers_the_same(server):
    prompt = "first " + TEXT
    cold, cached, count = ask(server, prompt)
    assert cached == 0
    warm, cached, _ = ask(server, prompt)
    assert cached == (count - 1) // 16 * 16
    assert warm == cold


def test_the_next_turn_finds_the_turn_before(server):
    messages = [{"role": "user", "content": "second " + TEXT}]
    fields = {"max_tokens": 40, "temperature": 0, "ignore_eos": False}
    answer = server.post("/v1/chat/completions", {"messages": messages, **fields})[1]
    said = answer["choices"][0]["message"]["content"]
    messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "And then?"}]
    usage = server.post("/v1/chat/completions", {"messages": messages, **fields})[1]["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= answer["usage"]["prompt_tokens"] // 16 * 16


def test_n_answers_share_one_prompt(server):
    before = computed(server)
    answer = server.complete(prompt="third " + TEXT, n=6, max_tokens=2, ignore_eos=True)
    server.wait_idle()
    after = computed(server)
    count = answer["usage"]["prompt_tokens"]
    assert count <= after - before <= count + 5 * 16
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_echoed_log_probabilities_are_computed_not_remembered(server):
    prompt = "fourth " + TEXT
    ask(server, prompt)
    cold, cached, _ = ask(server, prompt, echo=True)
    warm, again, _ = ask(server, prompt, echo=True)
    assert cached == again == 0 and cold == warm


def test_a_salt_is_a_world_of_its_own(server):
    prompt = "fifth " + TEXT
    assert ask(server, prompt, cache_salt="a")[1] == 0
    assert ask(server, prompt, cache_salt="b")[1] == 0
    assert ask(server, prompt)[1] == 0
    assert ask(server, prompt, cache_salt="a")[1] > 0
    status, answer = server.post("/v1/completions", {"prompt": prompt, "cache_salt": 5})
    assert status == 400 and answer["error"]["param"] == "cache_salt"
