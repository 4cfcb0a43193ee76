#!/usr/bin/env python3
"""Speed of the tokenizer: ordinary text for every family, and 100 KB of what is hard for a tokenizer.

    bench/tokenizer.py TEXT [ESPALIER]            needs PyPI's tokenizers; ESPALIER is build/espalier

Trains a tokenizer of each family on TEXT (byte-level BPE, 24,000 tokens) and measures `espalier tokenize --speed`:
megabytes a second of processor time on one core. The second table gives milliseconds for 100 KB and for 1 MB of one
thing repeated: ten times the text should take about ten times as long.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/tokenizers"))
from shapes import PIPELINES, Tokenizer, models, pre, trainers  # noqa: E402

FAMILIES = ["gpt2", "smollm", "llama3", "qwen2", "tekken", "gpt-4o", "deepseek-v3", "cl100k"]  # the last is watched


def train(pipeline, text, nfc, directory):
    from tokenizers import normalizers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pipeline
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainers.BpeTrainer(
        vocab_size=24000, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    (directory / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")


def speed(espalier, directory, text):
    run = subprocess.run([espalier, "tokenize", "--model", str(directory), "--speed", "--special"], input=text,
                         capture_output=True, check=True)
    return json.loads(run.stdout)


def hard(size):
    rng = random.Random(1)
    cjk = "".join(chr(rng.randrange(0x4e00, 0x9fa5)) for _ in range(size // 3)).encode()
    yield "a", b"a" * size
    yield "A", b"A" * size
    yield "spaces", b" " * size
    yield "newlines", b"\n" * size
    yield "space, newline", b" \n" * (size // 2)
    yield "digits", b"7" * size
    yield "emoji", "👩‍👩‍👧‍👦".encode() * (size // 25)
    yield "accents", "\u0301".encode() * (size // 2)
    yield "!", b"!" * size
    yield "<|im_", b"<|im_" * (size // 5)
    yield "<|im_end|>", b"<|im_end|>" * (size // 10)
    yield "random CJK", cjk
    yield "random bytes", rng.randbytes(size)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    text = pathlib.Path(sys.argv[1]).read_bytes()
    espalier = sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "build/espalier")
    rows = {}
    print("| family | MB/s | bytes a token |\n| --- | ---: | ---: |")
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            train(PIPELINES[family], text.decode(), family == "qwen2", directory)
            found = speed(espalier, directory, text)
            print(f"| {family} | {found['mb_per_s']:.1f} | {found['bytes'] / found['tokens']:.2f} |", flush=True)
            for (what, small), (_, large) in zip(hard(100_000), hard(1_000_000)):
                times = [speed(espalier, directory, part)["seconds"] * 1000 for part in (small, large)]
                rows.setdefault(what, []).append(f"{times[0]:.1f} / {times[1]:.0f}")
    print("\n| ms for 100 KB / 1 MB of | " + " | ".join(FAMILIES) + " |\n| --- |" + " ---: |" * len(FAMILIES))
    for what, cells in rows.items():
        print(f"| {what} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
