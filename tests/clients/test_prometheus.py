"""/metrics under prometheus_client's parser, with the rules a scraper relies on."""
import collections
import math

import pytest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture(scope="module")
def families(tiny):
    tiny.complete(prompt="abc", max_tokens=5, n=2, ignore_eos=True)
    tiny.events(prompt="abc", max_tokens=5)
    tiny.post("/v1/completions", {"prompt": 7})
    tiny.wait_idle()
    status, headers, text = tiny.request("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return list(text_string_to_metric_families(text))


def test_every_family_once_with_a_type_and_words(families):
    names = [family.name for family in families]
    assert len(names) == len(set(names)) > 20
    for family in families:
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation.endswith("."), family.name
        assert family.samples, family.name


def test_names_and_values(families):
    for family in families:
        seen = set()
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in seen, key
            seen.add(key)
            assert math.isfinite(sample.value), key
            if family.type == "counter":
                assert sample.name.endswith("_total") and sample.value >= 0, key


def test_histograms_are_cumulative(families):
    found = 0
    for family in families:
        if family.type != "histogram":
            continue
        series = collections.defaultdict(list)
        count, total = {}, {}
        for sample in family.samples:
            labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
            if sample.name.endswith("_bucket"):
                series[labels].append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                count[labels] = sample.value
            elif sample.name.endswith("_sum"):
                total[labels] = sample.value
        for labels, buckets in series.items():
            found += 1
            assert [edge for edge, _ in buckets] == sorted({edge for edge, _ in buckets})
            assert [n for _, n in buckets] == sorted(n for _, n in buckets)
            assert buckets[-1] == (math.inf, count[labels])
            assert total[labels] >= 0
    assert found >= 8


def test_what_was_done_is_counted(families):
    values = {(sample.name, frozenset(sample.labels.items())): sample.value
              for family in families for sample in family.samples}
    tokens = values[("espalier_generation_tokens_total", frozenset())]
    assert 10 < tokens <= 15
    assert values[("espalier_refusals_total",
                   frozenset({("reason", "invalid_type"), ("status", "400")}))] == 1
    assert values[("espalier_time_to_first_token_seconds_count", frozenset())] == 2  # requests


def test_the_names_routers_read(families, tiny):
    found = {sample.name: sample for family in families for sample in family.samples}
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert found[name].value == 0 and found[name].labels == {"model_name": tiny.model}
    info = found["vllm:cache_config_info"]
    assert info.value == 1 and set(info.labels) == {"block_size", "num_gpu_blocks"}
