"""The same request gives the same bytes alone, in company, with other chunks, threads and pools."""
import concurrent.futures

import pytest

REQUESTS = [
    {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0, "ignore_eos": True},
    {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 1.2, "seed": 5, "top_k": 50},
    {"prompt": [7 + i % 300 for i in range(700)], "max_tokens": 30, "temperature": 0.8,
     "seed": 6, "top_p": 0.9, "ignore_eos": True},
]


def ask(server, fields):
    return server.complete(**fields, return_token_ids=True)["choices"][0]["token_ids"]


@pytest.fixture(scope="module")
def alone(shared):
    return [ask(shared, fields) for fields in REQUESTS]


def noise(i):
    return {"prompt": [3 + (i * 37 + j) % 400 for j in range(1 + i * 13 % 200)],
            "max_tokens": 5 + i % 30, "temperature": 1, "seed": i}


def in_company(server):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        others = [pool.submit(ask, server, noise(i)) for i in range(29)]
        ours = [pool.submit(ask, server, fields) for fields in REQUESTS]
        for other in others:
            other.result()
        return [one.result() for one in ours]


def test_among_31_others(server, alone):
    assert in_company(server) == alone


@pytest.mark.parametrize("options", [
    ("--prefill-chunk", "16"), ("--prefill-chunk", "64"), ("--threads", "2"), ("--max-rows", "3"),
])
def test_with_other_options(launch, alone, options):
    server = launch(*options)
    assert in_company(server) == alone
    server.wait_idle()
    server.stop()


def test_after_preemptions(launch):
    """Long answers from short prompts outgrow the pool: each is what it is alone."""
    requests = [{"prompt": [11 + (i * 29 + j) % 300 for j in range(5 + i)], "max_tokens": 150, "temperature": i % 2,
                 "seed": i, "ignore_eos": True} for i in range(16)]
    server = launch("--context", "512", "--kv-memory", "150KiB", "--threads", "2")
    expected = [ask(server, fields) for fields in requests]
    assert server.metric("espalier_preemptions_total") == 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda fields: ask(server, fields), requests)) == expected
    assert server.metric("espalier_preemptions_total") > 0
    server.wait_idle()
    server.stop()
