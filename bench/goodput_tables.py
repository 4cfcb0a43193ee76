"""The tables of goodput.sh, from its JSON document: on the terminal and for docs/goodput.md."""
import pages
import ratios

KIND_NAMES = {"mean": "D1", "envelope": "D2", "gaps": "D4", "stages": "D6"}
MODE_NAMES = {"shared": "", "noshare": ", own"}
RIVALS = ("off", "eager", "best cap")
BEHIND = 0.97  # of the best rival; less is flagged
# Issue 8: taper over off, eager and the best cap, geometric means over W1..W10 at chunk best.
TARGETS = {("mean", "shared"): (1.50, 1.03, 1.03), ("mean", "noshare"): (1.22, 1.18, 1.10),
           ("gaps", "shared"): (1.50, 1.15, 1.12), ("gaps", "noshare"): (1.25, 1.40, 1.20)}


def column(kind, mode):
    return KIND_NAMES[kind] + MODE_NAMES[mode]


def by_policy(cell):
    return {found["policy"]: found for found in cell["policies"]}


def rival_of(found, name):
    """The policy that `name` stands for in a cell: of the caps, or of all rivals, the one with the most goodput."""
    caps = [policy for policy in found if policy.startswith("cap:")]
    names = {"best cap": caps, "best rival": caps + [policy for policy in ("off", "eager") if policy in found]}.get(name, [name])
    return max((policy for policy in names if policy in found), key=lambda policy: found[policy]["max_rate"], default=None)


def over(cell, policy, name):
    """policy over a rival of the cell: the ratio, and who the rival is."""
    found = by_policy(cell)
    rival = rival_of(found, name)
    return (None, None) if rival is None else (ratios.ratio(found[policy], found[rival]), rival)


def is_behind(cell):
    """taper has less than BEHIND of the best rival, or nothing where a rival has something."""
    found = by_policy(cell)
    rival = rival_of(found, "best rival")
    return "taper" in found and rival is not None and found["taper"]["max_rate"] < BEHIND * found[rival]["max_rate"]


def mean_over(cells, policy, name):
    pairs = []
    for cell in cells:
        found = by_policy(cell)
        rival = rival_of(found, name)
        if rival is None:
            return None
        pairs.append((found[policy], found[rival]))
    return ratios.geometric_mean(pairs)


def sort_of(document, chunk):
    """(kind, mode) of the cells with this chunk rule, in their order."""
    return list(dict.fromkeys((cell["slo_kind"], cell["mode"]) for cell in document["cells"] if cell["chunk"] == chunk))


def cells_of(document, chunk, kind, mode):
    return [cell for cell in document["cells"] if (cell["chunk"], cell["slo_kind"], cell["mode"]) == (chunk, kind, mode)]


def chunks_of(document):
    return list(dict.fromkeys(cell["chunk"] for cell in document["cells"]))


def policies_of(document):
    return [found["policy"] for found in document["cells"][0]["policies"]]


# --- tables

def means_table(document, chunk, policy):
    """A policy over each rival; beside the targets where they are for these cells."""
    rows = []
    for row in document["summary"]:
        if row["chunk"] != chunk or row["policy"] != policy:
            continue
        words = []
        for name, target in zip(RIVALS, row.get("targets") or [None] * 3):
            mean = row["geometric_means"][name]
            told = "" if target is None else f"; {target:.2f} {'met' if mean and mean[0] >= target else 'MISSED'}"
            words.append(ratios.words(mean) + told)
        rows.append([column(row["slo_kind"], row["mode"]), *words])
    return pages.table([f"{policy} over"] + list(RIVALS), rows)


def taper_table(document, chunk):
    """Of each workload taper's rate, and it over off / eager / the best cap."""
    sorts = sort_of(document, chunk)
    rows = {}
    for kind, mode in sorts:
        for cell in cells_of(document, chunk, kind, mode):
            three = [over(cell, "taper", name)[0] for name in RIVALS]
            rows.setdefault(cell["workload"], []).append(
                f"{by_policy(cell)['taper']['max_rate']:.2f}, " + " / ".join("-" if found is None else f"{found[0]:.2f}" for found in three))
    return pages.table(["taper, over off / eager / best cap"] + [column(*sort) for sort in sorts], [[name, *cells] for name, cells in rows.items()])


def rival_table(document, chunk):
    """Of each workload taper over its best rival, with the interval; what is behind stands bold."""
    sorts = sort_of(document, chunk)
    rows = {}
    for kind, mode in sorts:
        for cell in cells_of(document, chunk, kind, mode):
            found, rival = over(cell, "taper", "best rival")
            words = f"{ratios.words(found)} {rival}"
            rows.setdefault(cell["workload"], []).append(f"**{words}**" if is_behind(cell) else words)
    return pages.table(["taper over the best rival"] + [column(*sort) for sort in sorts], [[name, *cells] for name, cells in rows.items()])


def rates_table(document, chunk, kind, mode):
    rows = []
    for cell in cells_of(document, chunk, kind, mode):
        words = []
        for found in cell["policies"]:
            reach = found["max_rate_interval"]
            words.append(f"{found['max_rate']:.3f}" + (f" +-{reach[1] - found['max_rate']:.3f}" if reach and reach[1] is not None else "")
                         + (f" @{found['prefill_chunk']}" if chunk == "best" else ""))
        rows.append([cell["workload"], *words])
    return pages.table([f"requests/s, {column(kind, mode)}"] + policies_of(document), rows)


def behind_words(document, chunk):
    cells = [cell for cell in document["cells"] if cell["chunk"] == chunk]
    behind = [f"{cell['workload']} {column(cell['slo_kind'], cell['mode'])}" for cell in cells if is_behind(cell)]
    return f"taper is below {BEHIND:.2f} of the best rival in {len(behind)} of {len(cells)} cells" + (": " + ", ".join(behind) if behind else "")


def page(document):
    """What docs/goodput.md has of it."""
    parts = [f"`{document['command']}`, {document['seeds']} seeds, {document['commit']}."]
    for chunk in chunks_of(document):
        parts += [f"### Chunk `{chunk}`", means_table(document, chunk, "taper"), behind_words(document, chunk) + ":",
                  rival_table(document, chunk)]
        if chunk == "best":
            parts.append(taper_table(document, chunk))
        if "taper-paper" in policies_of(document):
            parts.append(means_table(document, chunk, "taper-paper"))
    return "\n\n".join(parts)


def show(document):
    for chunk in chunks_of(document):
        for kind, mode in sort_of(document, chunk):
            print(f"\n{KIND_NAMES[kind]} ({kind}), {'branches read their prefix once' if mode == 'shared' else 'every row reads its own prefix'}, chunk {chunk}\n")
            print(rates_table(document, chunk, kind, mode))
        for policy in policies_of(document)[1:]:
            print(f"\nGeometric means over the workloads, chunk {chunk}\n")
            print(means_table(document, chunk, policy))
        if "taper" in policies_of(document):
            print()
            print(rival_table(document, chunk))
            print(f"\n{behind_words(document, chunk)}")
