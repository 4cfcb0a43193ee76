"""Ratios of goodputs and how sure they are: what goodput.sh, paper_pair.sh and same_load.sh share.

A goodput is what `espalier simulate --goodput --json` says of a policy: `max_rate`, and `without_seed`, the rates with each seed
left out. A ratio is paired: each seed is left out of both. Its logarithm is what is normal. [ratio, low, high]; low and high are
None with one seed; None where a rate is missing.
"""
import math

STUDENT = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]  # 97.5 %, by degrees of freedom


def student(freedom):
    return STUDENT[freedom] if freedom < len(STUDENT) else 2.0


def jackknife_reach(without):
    """Half of the 95 % interval from the values with one seed left out at a time; None: one seed has none."""
    count = len(without)
    if count < 2:
        return None
    mean = sum(without) / count
    return math.sqrt(sum((v - mean) ** 2 for v in without) * (count - 1) / count) * student(count - 1)


def interval(log, reach):
    return [math.exp(log)] + ([None, None] if reach is None else [math.exp(log - reach), math.exp(log + reach)])


def logs(of, to):
    """Of the ratio, and of the ratio without each seed; None: a rate is missing."""
    if min(of["max_rate"], to["max_rate"]) <= 0:
        return None
    pairs = list(zip(of["without_seed"], to["without_seed"]))
    if any(min(pair) <= 0 for pair in pairs):
        return None
    return math.log(of["max_rate"] / to["max_rate"]), [math.log(a / b) for a, b in pairs]


def ratio(of, to):
    return geometric_mean([(of, to)])


def geometric_mean(pairs):
    """Over (of, to) of several workloads, a seed left out of all of them at once."""
    found = [logs(of, to) for of, to in pairs]
    if not found or None in found:
        return None
    mean = sum(log for log, _ in found) / len(found)
    without = [sum(seed) / len(seed) for seed in zip(*(without for _, without in found))]
    return interval(mean, jackknife_reach(without))


def mean_of_independent(values):
    """The geometric mean of ratios that were measured apart from each other (days, runs)."""
    if not values or min(values) <= 0:
        return None
    found = [math.log(value) for value in values]
    mean, count = sum(found) / len(found), len(found)
    if count < 2:
        return interval(mean, None)
    spread = math.sqrt(sum((log - mean) ** 2 for log in found) / (count - 1))
    return interval(mean, spread / math.sqrt(count) * student(count - 1))


def words(found, digits=2):
    if found is None:
        return "-"
    value, low, high = (None if part is None else f"{part:.{digits}f}" for part in found)
    return value if low is None else f"{value} ({low} to {high})"
