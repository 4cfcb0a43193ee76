#!/usr/bin/env python3
"""`bash bench/goodput.sh --quick`, as typed, and what must hold of its figures: tests/goodput_quick.py

Computed anew each time: the cache of finished searches is a folder that is thrown away."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CPU_SECONDS = 120  # two cores that do nothing else then need a minute; --quick promises two


def run():
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(["bash", "bench/goodput.sh", "--quick", "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True,
                              env={**os.environ, "XDG_CACHE_HOME": cache})
    return json.loads(done.stdout)


def problems(document):
    rates = {}
    for cell in document["cells"]:
        for policy in cell["policies"]:
            place = cell["workload"], cell["mode"], policy["policy"]
            rates[place] = policy["max_rate"]
            low, high = policy["max_rate_interval"]
            if not (0.1 < policy["max_rate"] < 20 and 0 <= low <= policy["max_rate"] <= high):
                yield f"{place}: a rate of {policy['max_rate']} requests/s, between {low} and {high}"
        over = cell["taper_over_best_rival"]
        best = max((rate, policy) for (workload, mode, policy), rate in rates.items()
                   if (workload, mode) == (cell["workload"], cell["mode"]) and policy != "taper")
        taper = rates[cell["workload"], cell["mode"], "taper"]
        ratio, low, high = over["ratio"]
        if abs(ratio - taper / best[0]) > 1e-9 or rates[cell["workload"], cell["mode"], over["rival"]] != best[0]:
            yield f"{cell['workload']} {cell['mode']}: taper gets {taper}, the best rival {best}; the document says {over}"
        if not low <= ratio <= high or ratio < 0.97 or high < 1:
            yield f"{cell['workload']} {cell['mode']}: taper over {over['rival']} is {ratio}, between {low} and {high}"
    if len(rates) != 3 * 2 * 4:
        yield f"{len(rates)} cells, expected 3 workloads x 2 modes x 4 policies"
    for workload in {place[0] for place in rates}:
        shared, alone = ({policy: rates[workload, mode, policy] for policy in ("off", "eager", "cap:2")}
                         for mode in ("shared", "noshare"))
        if shared["off"] != alone["off"]:
            yield f"{workload}: off never has two branches in a step, but gets {shared['off']} and {alone['off']}"
        if shared["eager"] <= shared["off"]:
            yield f"{workload}: where a prefix is read once eager gets {shared['eager']}, off {shared['off']}"
        if shared["eager"] <= alone["eager"]:
            yield f"{workload}: eager gets {shared['eager']} with shared prefixes, {alone['eager']} without"
    for row in document["summary"]:
        for rival, mean in row["geometric_means"].items():
            if mean is None or not 0 < mean[1] <= mean[0] <= mean[2]:
                yield f"{row['policy']} over {rival}, {row['mode']}: {mean}"
        if row["policy"] == "taper" and row["geometric_means"]["best rival"][0] < 1:
            yield f"taper over the best rival of each cell, {row['mode']}: {row['geometric_means']['best rival']}"


def page_problems(document):
    """The page is made from the document alone: written twice it is the same, and what stands around it stays."""
    with tempfile.TemporaryDirectory() as folder:
        page, source = pathlib.Path(folder, "page.md"), pathlib.Path(folder, "document.json")
        source.write_text(json.dumps(document))
        page.write_text("# before\n\n<!-- goodput.sh x -->\nold\n<!-- end of goodput.sh -->\n\nbehind\n")
        texts = []
        for _ in range(2):
            subprocess.run(["bash", "bench/goodput.sh", "--from", source, "--markdown", page, "--json"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            texts.append(page.read_text())
    if texts[0] != texts[1] or not texts[0].startswith("# before\n") or not texts[0].endswith("\n\nbehind\n") or "old" in texts[0]:
        yield f"written twice the page is not the same, or what stood around it is gone: {texts}"
    for row in document["summary"]:
        if row["policy"] == "taper" and f"{row['geometric_means']['off'][0]:.2f} (" not in texts[0]:
            yield f"the page lacks {row}"


def main():
    document = run()
    found = [*problems(document), *page_problems(document)]
    spent = os.times().children_user + os.times().children_system
    if spent > CPU_SECONDS:
        found.append(f"{spent:.0f} s of processor time, expected at most {CPU_SECONDS}")
    print("\n".join([*found, f"{spent:.0f} s of processor time"]))
    return 1 if found or not document["simulated"] else 0


if __name__ == "__main__":
    sys.exit(main())
