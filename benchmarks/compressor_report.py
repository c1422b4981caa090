"""Write docs/results/compressor.md from the rows of compressor_rows.py and the figures of compressor_speed.py."""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from dtcwsi.benchmark.cost import PAPER_FLOPS, paper_column

RESULTS = Path(__file__).parents[1] / "docs" / "results"
_SAME, _FOUND, _AIM, _INFERIOR = 0.002, 0.95, -0.005, -0.02
Row = dict[str, Any]

HEAD = """# The compressor

Made by `python benchmarks/compressor_report.py`; nothing here is written by hand. Fits:
`python benchmarks/compressor_rows.py needles tissue mil demo decisions telling curve --work DIR --tiles DIR --mil DIR
--demo DIR` (one thread, Adam 3e-4, batches of 8 bags, 160 training bags; 30 epochs and 200 fresh test bags for needles,
20 and 600 for tissue; five folds and 30 epochs for the real sets, 60 for the demo; seeds draw the world, the bags, the
weights and their order; commits in `compressor.jsonl`). Differences are to plain attention (abmil) on the same seed;
intervals are 95 % of the mean difference (Student's t over seeds). Several processes shared two cores: seconds are
rough.
"""


def main() -> None:
    """Write the page."""
    rows = [json.loads(line) for line in (RESULTS / "compressor.jsonl").read_text().splitlines()]
    parts = [
        HEAD,
        _shown(rows),
        _needles(rows),
        _tissue(rows),
        _folded(rows, "mil"),
        _folded(rows, "demo"),
        _decisions(rows),
        _curve(rows),
        _speed(),
        _paper(),
    ]
    (RESULTS / "compressor.md").write_text("\n".join(part for part in parts if part))


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = "|" + "---|" * len(header)
    return (
        "\n".join(["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"
    )


def _by_seed(rows: list[Row], **wanted: Any) -> dict[int, Row]:
    return {row["seed"]: row for row in rows if all(row[name] == value for name, value in wanted.items())}


def _apart(found: dict[int, Row], base: dict[int, Row]) -> list[float]:
    return [found[seed]["auc"] - base[seed]["auc"] for seed in found if seed in base]


def _interval(found: dict[int, Row], base: dict[int, Row]) -> tuple[float, float, float]:
    """Give the mean difference on the seeds that both have, two at least, and the ends of its interval."""
    values = _apart(found, base)
    mean, spread = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(student.ppf(0.975, len(values) - 1)) * spread
    return mean, mean - half, mean + half


def _difference(found: dict[int, Row], base: dict[int, Row]) -> str:
    values = _apart(found, base)
    if len(values) < 2:
        return f"{values[0]:+.4f}" if values else ""
    mean, low, high = _interval(found, base)
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def _cells(found: dict[int, Row], base: dict[int, Row]) -> list[str]:
    aucs = [row["auc"] for row in found.values()]
    tokens, seconds = (statistics.mean(row[name] for row in found.values()) for name in ("tokens_out", "train_s"))
    return [
        str(len(found)),
        f"{statistics.mean(aucs):.4f}",
        f"{min(aucs):.3f}",
        _difference(found, base),
        f"{tokens:.0f}",
        f"{seconds:.0f}",
    ]


_COLUMNS = ["seeds", "mean AUC", "worst", "difference", "tokens", "training s"]


def _grouped(rows: list[Row], group: str, task: str) -> list[tuple[str, float | None, dict[int, Row]]]:
    mine = [row for row in rows if row["group"] == group and row["task"] == task]
    names = dict.fromkeys((row["label"], row["retention"]) for row in mine)
    return [(label, share, _by_seed(mine, label=label, retention=share)) for label, share in names]


def _shown(rows: list[Row]) -> str:
    """Hold the rows against what was aimed at, and say where something simpler does better."""
    lines = [_on_needles(rows, share) for share in (0.4, 0.1, 0.02)] + [
        _on_tissue(rows, share) for share in (0.1, 0.02)
    ]
    lines += [_rivals(rows, "preset paper"), _rivals(rows, "mean")]
    return "## What the rows show\n\n" + "".join(f"* {line}\n" for line in lines if line)


def _on_needles(rows: list[Row], share: float) -> str:
    pairs = [
        (row["auc"], plain["auc"])
        for row in rows
        if row["group"] == "needles" and row["label"] == "dtc" and row["retention"] == share
        for plain in _by_seed(rows, group="needles", task=row["task"], label="abmil", seed=row["seed"]).values()
    ]
    learnt = [(ours, plain) for ours, plain in pairs if plain >= _FOUND]
    near = sum(ours >= plain - 0.01 for ours, plain in learnt)
    behind = statistics.mean(ours - plain for ours, plain in learnt)
    return (
        f"Needles at r = {share:g}: dtc comes within 0.01 of plain attention in {near} of the {len(learnt)} runs in "
        f"which that finds the needles (AUC {_FOUND:g} or more; {len(pairs)} runs in all); mean difference "
        f"{behind:+.4f}."
    )


def _on_tissue(rows: list[Row], share: float) -> str:
    found = _by_seed(rows, group="tissue", label="dtc", retention=share)
    mean, low, high = _interval(found, _by_seed(rows, group="tissue", label="abmil"))
    aim = "above" if mean >= _AIM else "BELOW"
    level = "not inferior" if low > _INFERIOR else "NOT shown to be level"
    return (
        f"Tissue at r = {share:g}, {len(found)} seeds: {mean:+.4f} ({low:+.4f} to {high:+.4f}): {level} at a margin of "
        f"{-_INFERIOR:g}, {aim} the aim of {_AIM:+g}."
    )


def _rivals(rows: list[Row], label: str) -> str:
    """List where ``label`` is above dtc's default on the seeds that both have."""
    found: dict[str, str] = {}
    names = {"tissue": "dtc", "mil": "dtc", "demo": "dtc", "decisions": "default"}
    for group, task, share in dict.fromkeys((row["group"], row["task"], row["retention"]) for row in rows):
        budget = share or {"tissue": 0.1}.get(task, 0.4)
        if group not in names or (place := f"{task} at r = {budget:g}") in found:  # groups share fits
            continue
        theirs = _by_seed(rows, group=group, task=task, label=label, retention=share)
        ours = _by_seed(rows, group=group, task=task, label=names[group], retention=budget)
        if len(ours.keys() & theirs.keys()) > 1 and _interval(theirs, ours)[0] > 0:
            found[place] = _difference(theirs, ours)
    told = "; ".join(f"{place} {apart}" for place, apart in found.items()) or "nowhere"
    return f"Where `{label}` is above dtc's default: {told}."


def _needles(rows: list[Row]) -> str:
    told = []
    for task in dict.fromkeys(row["task"] for row in rows if row["group"] == "needles"):
        base = _by_seed(rows, group="needles", task=task, label="abmil")
        for label, share, found in _grouped(rows, "needles", task):
            near = sum(row["auc"] >= base[seed]["auc"] - 0.01 for seed, row in found.items() if seed in base)
            told.append([task, label, "" if share is None else f"{share:g}", *_cells(found, base), f"{near}"])
    late = [
        f"{row['task']} seed {row['seed']} ({row['auc']:.2f})"
        for row in rows
        if row["group"] == "needles" and row["label"] == "abmil" and row["auc"] < 0.95
    ]
    head = f"Plain attention itself does not find the needles of {', '.join(late)}.\n\n" if late else ""
    columns = ["task", "model", "r", *_COLUMNS, "seeds within 0.01"]
    return "## Needles\n\n" + head + _table(columns, told) if told else ""


def _tissue(rows: list[Row]) -> str:
    base = _by_seed(rows, group="tissue", label="abmil")
    told = [
        [label, "" if share is None else f"{share:g}", *_cells(found, base)]
        for label, share, found in sorted(_grouped(rows, "tissue", "tissue"), key=lambda one: (one[0], -(one[1] or 2)))
    ]
    return "## Real tissue\n\n" + _table(["model", "r", *_COLUMNS], told) if told else ""


_FOLDED = {
    "mil": "## Real MIL sets\n\nFive folds a seed, 160 training bags of about six instances each.\n\n",
    "demo": "## The demo's slides\n\nOne cohort of 60 slides, five folds a seed, no patient in two of them.\n\n",
}


def _folded(rows: list[Row], group: str) -> str:
    told = []
    for task in dict.fromkeys(row["task"] for row in rows if row["group"] == group):
        base = _by_seed(rows, group=group, task=task, label="abmil")
        for label, share, found in _grouped(rows, group, task):
            accuracy = statistics.mean(row["accuracy"] for row in found.values())
            told.append([task, label, "" if share is None else f"{share:g}", f"{accuracy:.3f}", *_cells(found, base)])
    return _FOLDED[group] + _table(["set", "model", "r", "accuracy", *_COLUMNS], told) if told else ""


def _decisions(rows: list[Row]) -> str:
    """Differences to the default, not to plain attention."""
    told = []
    for task in dict.fromkeys(row["task"] for row in rows if row["group"] == "decisions"):
        base = _by_seed(rows, group="decisions", task=task, label="default")
        for label, _, found in _grouped(rows, "decisions", task):
            told.append([task, label, *_cells(found, base)])
    head = (
        "## Decisions, one at a time\n\nAt a tenth of the tokens, on the real sets (seven instances a bag) at 0.4 of "
        "them. Differences are to the default.\nThree seeds screen every switch on lone needles and tissue; those "
        "whose interval leaves 0 there, one in twenty by\nchance alone, get five seeds on every kind of data by "
        "the group `telling`.\n\n"
    )
    return head + _table(["task", "switched", *_COLUMNS], told) + _leaning(rows) if told else ""


def _leaning(rows: list[Row]) -> str:
    """List the switches whose interval leaves 0 on five seeds."""
    better, worse = [], []
    for task in dict.fromkeys(row["task"] for row in rows if row["group"] == "decisions"):
        base = _by_seed(rows, group="decisions", task=task, label="default")
        for label, _, found in _grouped(rows, "decisions", task):
            if label in ("default", "abmil") or len(_apart(found, base)) < 5:
                continue
            _, low, high = _interval(found, base)
            (better if low > 0 else worse if high < 0 else []).append(f"{label} on {task} {_difference(found, base)}")
    told = [f"{name}: {'; '.join(found) or 'none'}" for name, found in (("better", better), ("worse", worse))]
    return (
        f"\nOf those on five seeds, the interval leaves 0 for the {told[0]}; for the {told[1]}. What is better by less "
        f"than {_SAME:g} has not changed the default.\n"
    )


def _curve(rows: list[Row]) -> str:
    told, mine = [], [row for row in rows if row["group"] == "curve"]
    for task in dict.fromkeys(row["task"] for row in mine):
        shares = sorted({row["retention"] for row in mine if row["task"] == task}, reverse=True)
        for label in dict.fromkeys(row["label"] for row in mine):
            found: dict[float, list[float]] = defaultdict(list)
            for row in mine:
                if row["task"] == task and row["label"] == label:
                    found[row["retention"]].append(row["auc"])
            told.append([task, label, *(f"{statistics.mean(found[s]):.3f}" if s in found else "" for s in shares)])
    if not told:
        return ""
    shares = sorted({row["retention"] for row in mine}, reverse=True)
    head = "## Quality against tokens\n\nMean AUC of one to three seeds.\n\n"
    return head + _table(["task", "compressor", *(f"{s:g}" for s in shares)], told) + _above(mine)


def _above(mine: list[Row]) -> str:
    """Say where another compressor is above dtc, by the seeds that both have."""
    found = []
    for task in dict.fromkeys(row["task"] for row in mine):
        for share in sorted({row["retention"] for row in mine}, reverse=True):
            here = [row for row in mine if row["task"] == task and row["retention"] == share]
            ours = {row["seed"]: row["auc"] for row in here if row["label"] == "dtc"}
            for label in dict.fromkeys(row["label"] for row in here if row["label"] != "dtc"):
                theirs = {row["seed"]: row["auc"] for row in here if row["label"] == label}
                apart = [theirs[seed] - ours[seed] for seed in ours.keys() & theirs.keys()]
                if apart and statistics.mean(apart) > _SAME:
                    found.append(f"{label} on {task} at {share:g} (+{statistics.mean(apart):.3f})")
    told = "; ".join(found) or "none"
    return (
        f"\nAbove dtc by more than {_SAME:g}, on the seeds that both have: {told}. On tissue plain averages do best "
        "(mean pooling, above), and what clusters and averages a whole bag comes near to them.\n"
    )


def _speed() -> str:
    path = RESULTS / "compressor_speed.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    parts = ["## Speed and memory\n\n`python benchmarks/compressor_speed.py`, two threads; the machine is shared.\n"]
    if "floor" in found:
        lines = [
            [str(row["dim"]), name, f"{row['median_ms'][name]:.0f}", f"{row['times_floor'][name]:.2f}"]
            for row in found["floor"]["result"]
            for name in row["median_ms"]
        ]
        parts.append("One slide of 13,900 patches to r = 0.4 in three stages, inference:\n")
        parts.append(_table(["dim", "what", "ms", "times the floor"], lines))
    if "scale" in found:
        scale = found["scale"]["result"]
        lines = [
            [f"{row['patches']:,}", f"{row['ms']:.0f}", f"{row['matrix_mib']:.0f}", f"{row['extra_mib']:.0f}"]
            for row in scale["rows"]
        ]
        whole, beyond = scale["exponents"], scale["exponents_from_10000"]
        parts.append(
            f"Time and extra memory grow with powers {whole['ms']:.3f} and {whole['extra_mib']:.3f} of the patches, "
            f"from 10,000 on {beyond['ms']:.3f} and {beyond['extra_mib']:.3f} (512 features; 10,000 fit the "
            "processor's cache):\n"
        )
        parts.append(_table(["patches", "ms", "matrix MiB", "extra MiB"], lines))
    if "mapped" in found:
        row = found["mapped"]["result"]
        same = "the same" if row["same_tokens_as_in_memory"] else "OTHER"
        parts.append(
            f"{row['patches']:,} x {row['dim']} float16, {row['matrix_mib']:.0f} MiB on disk: {row['seconds']:.0f} s, "
            f"extra memory {row['extra_mib']:.0f} MiB, {same} tokens as from memory.\n"
        )
    if "step" in found:
        lines = [
            [str(r["dim"]), r["model"], f"{r['ms']:.0f}", f"{r['extra_mib']:.0f}"] for r in found["step"]["result"]
        ]
        parts.append("A training step at full budget on one slide of 13,900 patches:\n")
        parts.append(_table(["dim", "model", "ms", "extra MiB"], lines))
    if "cohort" in found:
        row = found["cohort"]["result"]
        parts.append(
            f"One optimiser step over {row['slides']} slides of 1,000 to 20,000 patches ({row['patches']:,} in all, "
            f"512 features), accumulated: {row['seconds']:.0f} s, extra memory {row['extra_mib'] / 1024:.1f} GiB.\n"
        )
    return "\n".join(parts)


def _paper() -> str:
    lines = []
    for name, terms in (("a r", (1,)), ("b r^2", (2,)), ("a r + b r^2", (1, 2))):
        weights, errors = paper_column(terms)
        told = ", ".join(f"{weight / 1e9:.1f} G" for weight in weights.values())
        lines.append([name, told, *(f"{errors[share]:+.0%}" for share in PAPER_FLOPS)])
    return (
        "## The FLOPs of Table 2\n\nThe column 118.4, 62.7, 38.4, 24.3 G is no cost of attention pooling: one slide of "
        "13,900 x 512 through abmil is 9.1 GFLOP (`dtcwsi.benchmark.cost`). Fitted by powers of r:\n\n"
        + _table(["form", "at r = 1", *(f"error at {share:g}" for share in PAPER_FLOPS)], lines)
        + "\nThe best of these, a r + b r^2, is what dense self-attention over all tokens costs: 4 N^2 d = 93.7 G at "
        "N = 13,900 gives d = 121, close to a width of 128, beside 1.8 MFLOP a token of linear layers.\n"
    )


if __name__ == "__main__":
    main()
