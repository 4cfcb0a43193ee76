#!/usr/bin/env python3
"""Forms of the step-latency predictor on the same steps: a line, straight lines between nodes, a table.

    espalier profile --model MODEL --max-rows 32 --prefill-chunk 128 --record /tmp/profile.json --steps steps.csv
    bench/predictor.py steps.csv h200-qwen3-32b h200x2-qwen3-32b h100x2-qwen3-32b h100-qwen3-32b-fp8

A file holds steps of the engine, in the order in which they ran; a name stands for steps that are drawn from the built-in
profile of that name (traces/simulate/profile_builtin.c) with its noise. Each form predicts a step before it learns from it,
all by the same rule (scheduler/predictor.c: recursive least squares, relative, forgetting, bounded), beginning with the same
prior (of a GPU, of the default model on a CPU). Printed is the mean of |predicted / measured - 1| behind the first third, and the same of the best constants:
the medians of all steps with the same rows, the same prefill tokens (above 16 within 10 %) and context within 30 %, on the
steps whose composition was met at least 5 times; there each form again.
"""
import argparse
import csv
import math
import pathlib

import numpy as np

NOISE, COMMON, APART, OFFSET = 0.1, 1.0, 1.0, 0.2  # as in scheduler/predictor.c
FORGET, OUTLIER, LEAST_SPREAD, SPREAD_MEMORY, SURE_STEPS = 0.998, 3.0, 0.02, 0.02, 8
# Priors, us: a step, a token, a row, a slot of context, a unit of attention; only the proportions matter.
GPU = np.array([20e3, 70, 20, 0.08, 0.005])
ENGINE = np.array([8700, 850, 324, 2.3, 0.576])  # model/step_prior.c of the default model in VSQ4z
POWERS = 2.0 ** np.arange(14)
BINS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, *range(128, 1025, 64), 2048, 4096, 8192, 16384])

# Qwen3-32B: ms for a step, ms for a row, ns for a slot, GPUs; GEMM in tiles, on one H200.
PROFILES = {"h200-qwen3-32b": (18.4, 0.031, 61, 1), "h200x2-qwen3-32b": (10.2, 0.024, 30, 2),
            "h100x2-qwen3-32b": (13.3, 0.019, 44, 2), "h100-qwen3-32b-fp8": (14.4, 0.034, 85, 1)}
TILES = [(64, 18800), (128, 18700), (192, 23100), (256, 24300), (384, 33400), (512, 41400)]


def tiles_us(tokens):
    for most, us in TILES:
        if tokens <= most:
            return us
    return TILES[-1][1] * math.ceil(tokens / 128) * 128 / 512


def profile_steps(name, count=3000, seed=1):
    """Rows, prefill tokens, context read, prefill attention, microseconds."""
    rng = np.random.default_rng(seed)
    fixed_ms, row_ms, slot_ns, gpus = PROFILES[name]
    steps = []
    for _ in range(count):
        rows, tokens = int(rng.integers(1, 151)), int(rng.integers(0, 512)) * int(rng.random() < 0.5)
        context, attention = rows * int(rng.integers(300, 2300)), tokens * 2000 * rng.random()
        us = (tiles_us(rows + tokens) * fixed_ms / 18.4 + row_ms * 1e3 * rows + slot_ns * 1e-3 * context
              + 4 * 64 * 64 * 128 / (gpus * 989e12 * 0.45) * 1e6 * attention)
        steps.append((rows, tokens, context, attention, us * math.exp(0.04 * rng.standard_normal() - 0.0008)))
    return np.array(steps)


def read_steps(path):
    with open(path, newline="") as file:
        return np.array([[float(row[name]) for name in ("decode_rows", "prefill_tokens", "context_read",
                                                        "prefill_attention", "us")] for row in csv.DictReader(file)])


def no_more(tokens):
    return np.zeros(0)


def nodes(tokens):
    """The two nodes beside it, each as much as it is near."""
    right = max(1, int(np.searchsorted(POWERS, tokens)))
    out, share = np.zeros(len(POWERS)), (tokens - POWERS[right - 1]) / (POWERS[right] - POWERS[right - 1])
    out[right - 1], out[right] = 1 - share, share
    return out


def bins(tokens):
    out = np.zeros(len(BINS))
    out[min(len(BINS) - 1, int(np.searchsorted(BINS, tokens)))] = 1
    return out


FORMS = {"line": (no_more, np.zeros(0)), "nodes": (nodes, POWERS), "table": (bins, BINS)}


class Predictor:
    def __init__(self, form, guess, single_us):
        self.more, places = FORMS[form]
        prior = guess * single_us / guess[:3].sum()
        self.weight = np.concatenate([prior, np.zeros(len(places))])
        spread = np.concatenate([APART * prior, OFFSET * (prior[0] + prior[1] * places)])
        self.covariance = np.diag(spread ** 2)
        self.covariance[:5, :5] += COMMON ** 2 * np.outer(prior, prior)
        self.most = np.diag(self.covariance).copy()
        self.spread, self.steps = 0.0, 0

    def terms(self, step):
        rows, tokens, context, attention = step[:4]
        return np.concatenate([[1, rows + tokens, rows, context, attention], self.more(rows + tokens)])

    def predict(self, step):
        return max(1.0, float(self.weight @ self.terms(step)))

    def observe(self, step):
        terms, us = self.terms(step), step[4]
        expected = float(self.weight @ terms)
        whole = max(us, expected)
        error, sure = (us - expected) / whole, self.steps >= SURE_STEPS
        if sure:
            error = min(max(error, -OUTLIER * self.spread), OUTLIER * self.spread)
        part = SPREAD_MEMORY if sure else 1 / (self.steps + 1)
        self.spread = max(LEAST_SPREAD, self.spread + part * (abs(error) - self.spread))
        self.steps += 1
        x = terms / whole
        gain = self.covariance @ x
        known = NOISE ** 2 + x @ gain
        self.weight = self.weight + gain / known * error
        self.covariance = (self.covariance - np.outer(gain, gain) / known) / FORGET
        keep = np.sqrt(np.minimum(1, self.most / np.diag(self.covariance)))
        self.covariance *= np.outer(keep, keep)


def composition(step):
    rows, tokens, context = step[:3]
    return (rows, tokens if tokens <= 16 else 16 + int(math.log(tokens, 1.1)), int(math.log(max(1, context), 1.3)))


def constants(steps, first):
    """{step: error of the best constant} of the steps from `first` on that have others like them."""
    groups = {}
    for at, step in enumerate(steps):
        groups.setdefault(composition(step), []).append(at)
    errors = {}
    for members in groups.values():
        median = np.median(steps[members, 4])
        for at in members if len(members) >= 5 else ():
            if at >= first:
                errors[at] = abs(median / steps[at, 4] - 1)
    return errors


def compare(name, steps, guess):
    first = len(steps) // 3
    best = constants(steps, first)
    print(f"{name}: {len(steps)} steps; the best constants of {len(best)} of them {100 * np.mean(list(best.values())):.1f} %")
    for form in FORMS:
        predictor, errors = Predictor(form, guess, steps[:, 4].min()), {}
        for at, step in enumerate(steps):
            if at >= first:
                errors[at] = abs(predictor.predict(step) / step[4] - 1)
            predictor.observe(step)
        alike = np.mean([errors[at] for at in best])
        print(f"  {form:6} {100 * np.mean(list(errors.values())):5.1f} %, on those {100 * alike:5.1f} %, "
              f"{alike / np.mean(list(best.values())):.2f} times the constants'")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", help="a CSV of espalier profile --steps, or a profile's name")
    for name in parser.parse_args().steps:
        if name in PROFILES:
            compare(name, profile_steps(name), GPU)
        else:
            compare(pathlib.Path(name).name, read_steps(name), ENGINE)


if __name__ == "__main__":
    main()
