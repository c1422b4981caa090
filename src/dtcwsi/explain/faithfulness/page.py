"""The page of a run's maps: what can be said of them, the figure, tables of means, and what the numbers mean."""

from collections.abc import Mapping, Sequence

from dtcwsi.explain.faithfulness.maps import MAPS
from dtcwsi.explain.faithfulness.table import MEASURES, RANDOM, Estimate
from dtcwsi.explain.faithfulness.verdict import verdicts

__all__ = ["markdown_page", "markdown_table"]

_PARTS = {
    "The decision without them": (
        "deletion",
        "insertion",
        "deletion_gain",
        "insertion_gain",
        "deletion_margin_gain",
        "insertion_margin_gain",
    ),
    "The lesion": ("lesion_auroc", "dice_as_many", "dice_above_share"),
    "Other trainings": ("folds_spearman", "folds_top_tenth", "seeds_spearman", "seeds_top_tenth"),
    "Weights drawn anew": ("redrawn_aggregator", "redrawn_compressor", "redrawn_both"),
}


def markdown_page(title: str, means: Mapping[str, Mapping[str, Estimate]], *, facts: Sequence[str], figure: str) -> str:
    """Write the page: facts, what can be said of each map, the figure, a table a part, and what each measure means."""
    lines = [f"# {title}", "", *(f"* {fact}" for fact in facts), ""]
    said = verdicts(means)
    if said:
        lines += ["## What can be said", "", "By 95 % intervals over patients:", "", *(f"* {one}" for one in said), ""]
    lines += [f"![deletion and insertion curves]({figure})"]
    for heading, measures in _PARTS.items():
        there = [measure for measure in measures if any(measure in row for row in means.values())]
        if there:
            lines += ["", f"## {heading}", "", *markdown_table(means, there), ""]
            lines += [f"* `{measure}`: {MEASURES[measure]}." for measure in there]
    return "\n".join(lines) + "\n"


def markdown_table(means: Mapping[str, Mapping[str, Estimate]], measures: Sequence[str]) -> list[str]:
    """Lay out the maps that have any of these measures, a row each: the mean, and its 95 % interval."""
    rows = [
        [name, *(_cell(means[name].get(measure)) for measure in measures)]
        for name in (*MAPS, RANDOM)
        if any(measure in means.get(name, {}) for measure in measures)
    ]
    header = ["map", *measures]
    return [_line(header), _line(["---"] * len(header)), *map(_line, rows)]


def _cell(found: Estimate | None) -> str:
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
