"""lm-evaluation-harness, local-completions: its log-likelihoods against numpy_llama.py.

Tasks of our own over a few sentences, since no dataset can be fetched here: multiple choice, rolling
log-likelihood in windows, and generation.
"""
import json

import numpy
import pytest
import yaml
from conftest import GOLDEN, Ledger
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from numpy_llama import Llama
from tokenizers import Tokenizer

CLOSE = 1e-3
MAX_LENGTH = 65  # of lm_eval's windows: the texts need several
QUESTIONS = [
    ("Water freezes at", ["zero degrees", "noon", "the station, which is old"]),
    ("The capital of France is", ["Paris", "a river", "seven"]),
    ("Two and two are", ["four", "five", "in the garden with the others", "x"]),
    ("She opened the door and", ["saw the sea.", "1234567890", "door door door"]),
    ("Ein Satz mit Umlauten:", ["größer", "世界", "naïve"]),
]
TEXTS = [
    "A short one.",
    "The tower is 324 metres tall, about the same height as an 81-storey building, and the tallest structure "
    "in the city. Its base is square, measuring 125 metres on each side. During its construction it surpassed "
    "another monument to become the tallest man-made structure in the world, a title it held for 41 years.",
]
COMMON = {"dataset_path": "json", "test_split": "test", "metadata": {"version": 1}}
TASKS = {
    "choice": {"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}",
               "doc_to_target": 0, "metric_list": [{"metric": "acc"}]},
    "rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
                "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}]},
    "writing": {"output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{choices[0]}}",
                "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 12}, "metric_list": [{"metric": "exact_match"}]},
}


@pytest.fixture(scope="module")
def model():
    return Llama(GOLDEN)


@pytest.fixture(scope="module")
def words():
    return Tokenizer.from_file(str(GOLDEN / "tokenizer.json"))


@pytest.fixture
def evaluate(exact, run_client, tmp_path):
    """Runs the tasks by the command; gives {task: [sample]} and {task: its results}."""
    rows = {"choice": [{"question": q, "choices": c} for q, c in QUESTIONS],
            "rolling": [{"text": text} for text in TEXTS]}
    rows["writing"] = rows["choice"]
    for name, task in TASKS.items():
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(
            {**COMMON, "task": name, "dataset_kwargs": {"data_files": {"test": str(data)}}, **task}))

    def run(batch_size=1, **model_args):
        out = tmp_path / "out"
        arguments = {"model": exact.model, "base_url": exact.url + "/v1/completions", "max_length": MAX_LENGTH,
                     **model_args}
        run_client("lm_eval", "--model", "local-completions", "--tasks", ",".join(TASKS), "--include_path", tmp_path,
                   "--model_args", ",".join(f"{key}={value}" for key, value in arguments.items()),
                   "--batch_size", batch_size, "--log_samples", "--output_path", out, HF_DATASETS_OFFLINE="1")
        (results,) = out.rglob("results_*.json")
        samples = {name: [json.loads(line) for line in next(out.rglob(f"samples_{name}_*.jsonl")).open()]
                   for name in TASKS}
        return samples, json.loads(results.read_text())["results"]

    return run


def check_choices(samples, model, words):
    """Each (context, continuation) as the harness says it sent it; tokens as it splits them."""
    assert len(samples) == len(QUESTIONS)
    for sample, (question, choices) in zip(samples, QUESTIONS):
        best = []
        for pair, answer, choice in zip(sample["arguments"].values(), sample["filtered_resps"], choices):
            assert (pair["arg_0"], pair["arg_1"]) == (question, " " + choice)
            context = words.encode(question, add_special_tokens=False).ids
            both = words.encode(f"{question} {choice}", add_special_tokens=False).ids
            expected, greedy = model.loglikelihood(context, both[len(context):])
            assert float(answer[0]) == pytest.approx(expected, abs=CLOSE)
            assert str(answer[1]) == str(greedy)
            best.append(expected)
        assert sample["acc"] == float(numpy.argmax(best) == 0)


def check_rolling(samples, results, model, words):
    total = 0
    for sample, text in zip(samples, TEXTS):
        ids = words.encode(text, add_special_tokens=False).ids
        windows = [make_disjoint_window(pair) for pair in get_rolling_token_windows(
            ids, prefix_token=words.token_to_id("<|begin_of_text|>"), max_seq_len=MAX_LENGTH - 2, context_len=1)]
        assert len(windows) > 1 or text == TEXTS[0]
        expected = sum(model.loglikelihood(list(context), list(piece))[0] for context, piece in windows)
        assert float(sample["filtered_resps"][0]) == pytest.approx(expected, abs=CLOSE)
        total += expected
    size = sum(len(text.encode()) for text in TEXTS)
    assert results["bits_per_byte,none"] == pytest.approx(-total / size / numpy.log(2), abs=1e-5)


def check_writing(samples, server, words):
    for sample, (question, _) in zip(samples, QUESTIONS):
        ids = words.encode(question, add_special_tokens=False).ids
        answer = server.complete(prompt=ids, max_tokens=12, temperature=0, stop=["\n\n"])
        assert sample["resps"][0][0] == answer["choices"][0]["text"]


@pytest.mark.parametrize("settings", [
    {"batch_size": 4},  # several prompts in a request
    {"num_concurrent": 8},
], ids=["4 a request", "8 at once"])
def test_loglikelihoods(evaluate, exact, model, words, settings):
    ledger = Ledger(exact)
    samples, results = evaluate(tokenizer=GOLDEN, tokenizer_backend="huggingface", **settings)
    check_choices(samples["choice"], model, words)
    check_rolling(samples["rolling"], results["rolling"], model, words)
    assert ledger.grown("espalier_disconnects_total") == 0
    check_writing(samples["writing"], exact, words)
