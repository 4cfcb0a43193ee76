"""espalier tokenize against Hugging Face's tokenizers: the same tokenizer.json, the same strings, the same ids and texts.

    tests/tokenizers/run.sh [BUILD_DIR] [PYTEST ARGUMENTS]
"""
import json
import os
import random
import subprocess

import pytest
from shapes import REFUSED, ROOT, shapes, train
from strings import strings

ESPALIER = os.environ.get("ESPALIER", str(ROOT / "build/espalier"))
COUNT = int(os.environ.get("ESPALIER_TEST_STRINGS", "400"))
SHAPES = list(shapes())


def convert(directory, lines, *options):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run = subprocess.run([ESPALIER, "tokenize", "--model", str(directory), "--json-lines", *options], input=text, text=True,
                         capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.split("\n")[:-1]]


def write(directory, tokenizer, text=None):
    (directory / "tokenizer.json").write_text(text or tokenizer.to_str(), encoding="utf-8")
    return directory


@pytest.mark.parametrize(("name", "tokenizer", "text"), SHAPES, ids=[shape[0] for shape in SHAPES])
def test_shape(tmp_path, name, tokenizer, text):
    write(tmp_path, tokenizer, text)
    texts = strings(COUNT, seed=name)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=True)]
    found = [line["tokens"] for line in convert(tmp_path, texts, "--special")]
    wrong = [(t, e, f) for t, e, f in zip(texts, expected, found, strict=True) if e != f]
    assert not wrong, f"{len(wrong)} of {len(texts)}; {wrong[0][0]!r}: {tokenizer.decode_batch([[i] for i in wrong[0][1]], False)} and not " \
                      f"{tokenizer.decode_batch([[i] for i in wrong[0][2]], False)}; {wrong[0][1:]}"
    plain = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert [line["tokens"] for line in convert(tmp_path, texts, "--special", "--no-bos")] == plain
    # Special tokens as text: what a chat message's content goes through.
    tokenizer.encode_special_tokens = True
    content = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert [line["tokens"] for line in convert(tmp_path, texts, "--no-bos")] == content
    tokenizer.encode_special_tokens = False
    decode(tmp_path, name, tokenizer, plain)


def decode(directory, name, tokenizer, lists):
    rng = random.Random(name)
    ids = sorted(tokenizer.get_vocab().values())
    lists = lists[:100] + [[rng.choice(ids) for _ in range(rng.randrange(1, 12))] for _ in range(200)]
    for options, skip in (((), True), (("--special",), False)):
        found = [line["text"] for line in convert(directory, lists, *options)]
        assert found == tokenizer.decode_batch(lists, skip_special_tokens=skip)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused(tmp_path, name):
    write(tmp_path, train("refused", REFUSED[name], vocab=300))
    run = subprocess.run([ESPALIER, "tokenize", "--model", str(tmp_path)], input="a b", text=True, capture_output=True, check=False)
    assert run.returncode == 1 and not run.stdout
    assert "not supported" in run.stderr or "supported:" in run.stderr, run.stderr
    assert str(tmp_path) in run.stderr, run.stderr
