"""Fault ladders over `espalier quantize`: the n-th malloc, mmap, file or thread call fails, or the n-th that writes.

After each step the directory is there with every byte as without a fault and the status is 0, or the status is 1, one line
says why, and nothing is there that was not there before.
"""
import hashlib
import os
import re
import shutil
import subprocess

from faulty_server import PATIENCE, Broken, last_lines

KINDS = ("memory", "map", "file", "thread", "write")
TEXT = "The river runs past the old mill, and nobody counts the days. " * 120  # of a model with a token a byte
LINE = re.compile(r"espalier quantize: .{10,}")
KNOWN = re.compile(r"espalier: (warning: |removing .*, which a run that was killed left$)")


def digests(directory):
    """Of every file below, by its path."""
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


class Quantizing:
    """A model, options, and the directory in which OUT appears; `before`: what is at OUT already, or nothing."""

    def __init__(self, espalier, faults, place, model, options, before=None):
        self.command = [espalier, "quantize", "--model", model, "--out", str(place / "out"), "--threads", "2", *options]
        self.faults, self.place, self.before = faults, place, before
        faults.disarm()
        self.expected = self.run()
        if self.expected[0] != 0:
            raise SystemExit("quantize without a fault: " + self.expected[2])

    def run(self):
        """(status, what is in the place, standard error, standard output)"""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        if self.before:
            shutil.copytree(self.before, self.place / "out")
        process = subprocess.run(self.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
                                 env={**os.environ, **self.faults.environment}, check=False)
        return process.returncode, digests(self.place), process.stderr.decode(), process.stdout.decode()

    def step(self, kind):
        def run(n):
            self.faults.arm(kind, n)
            try:
                status, found, words, table = self.run()
            except subprocess.TimeoutExpired:
                raise Broken("it does not end") from None
            finally:
                met, what = self.faults.fired > 0, self.faults.what
                self.faults.disarm()
            try:
                return self.judge(status, found, words, table), met, what
            except Broken as broken:
                broken.what = what
                raise
        return run

    def judge(self, status, found, words, table):
        if re.search(r"Sanitizer|runtime error|broken invariant", words):
            raise Broken("it reported: " + last_lines(words, 12))
        said = [line for line in words.splitlines() if not KNOWN.match(line)]
        if status == 0:
            if found != self.expected[1]:
                raise Broken(f"status 0, but the files are others: {sorted(found)}")
            if table != self.expected[3] or said:
                raise Broken(f"status 0, but it says {said} and {table[-200:]}")
            return "written"
        if status != 1 or len(said) != 1 or not (LINE.fullmatch(said[0]) or said[0].startswith("espalier: error: ")):
            raise Broken(f"status {status}, not refused in one line: {words[-600:]}")
        before = digests(self.before) if self.before else {}
        if found != {f"out/{name}": digest for name, digest in before.items()} or (not before and any(self.place.iterdir())):
            raise Broken(f"refused, but there are {sorted(path.name for path in self.place.rglob('*'))}: {said[0]}")
        return "refused"


def quantize_ladders(options, tally, faults, models):
    text, place = options.work / "calibration.txt", options.work / "place"
    text.write_text(TEXT)
    made = options.work / "made"
    shutil.copytree(models["quantized"][0], made)
    runs = {
        "quantize": (models["gguf"][0], (), None),
        "quantize a directory": (models["safetensors"][0], ("--format", "w8"), None),
        "quantize again": (models["gguf"][0], ("--clip", "max", "--force"), made),
        "quantize by a text": (models["gguf"][0], ("--calibrate", str(text), "--calibrate-windows", "8"), None),
    }
    for name, (model, words, before) in runs.items():
        if not re.search(options.only, name):
            continue
        quantizing = None
        # Of memory alone those two: the others allocate what the first does, or what loading a directory does.
        for kind in KINDS if name in ("quantize", "quantize by a text") else KINDS[1:]:
            if re.search(options.kind, kind):
                quantizing = quantizing or Quantizing(options.espalier, faults, place, model, words, before)
                tally.ladder(f"{name}: {kind}", quantizing.step(kind))


def quantized_model(espalier, model, out):
    """A quantized directory of `model`, made without faults."""
    subprocess.run([espalier, "quantize", "--model", model, "--out", str(out)], check=True, capture_output=True, timeout=60)
    return str(out)

