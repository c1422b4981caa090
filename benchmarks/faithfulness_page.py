"""The tables and figures of `faithfulness.py`."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dtcwsi.explain.faithfulness.curves import SHARES
from dtcwsi.explain.faithfulness.table import MEASURES

__all__ = ["write_page"]

LINE = "<!-- below: written by benchmarks/faithfulness.py -->"
PARTS = {
    "What the decision rests on": ("deletion_gain", "insertion_gain", "deletion_margin_gain", "insertion_margin_gain"),
    "The lesion": ("lesion_auroc", "dice_as_many", "dice_above_share"),
    "Other folds and seeds": ("folds_spearman", "folds_top_tenth", "seeds_spearman", "seeds_top_tenth"),
    "Weights drawn anew": ("redrawn_aggregator", "redrawn_compressor", "redrawn_both"),
}
# Okabe and Ito's colours; compressed models have the colour of their plain one, dashed.
COLOURS = {"abmil": "#0072b2", "clam-sb": "#009e73", "transmil": "#d55e00"}
TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def write_page(told: dict[str, Any], folder: Path) -> None:
    """Write the figures, and the tables below the line of faithfulness.md."""
    page = folder / "faithfulness.md"
    above = page.read_text().partition(LINE)[0] if page.exists() else "# Faithfulness\n\n"
    for name, models in told["cohorts"].items():
        _draw(models, folder / f"faithfulness_{name}.svg")
    page.write_text(above + "\n".join([LINE, *_lines(told)]) + "\n")


def _lines(told: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, models in told["cohorts"].items():
        lines += ["", f"## {name.capitalize()}", "", f"![deletion and insertion on {name}](faithfulness_{name}.svg)"]
        lines += ["", "| model | AUC (pooled, 95 %) | slides | deletion by predicted class | other seeds | CPU s |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [_run(model, found) for model, found in models.items()]
        for heading, measures in PARTS.items():
            lines += ["", f"### {heading}", "", *_table(models, measures)]
    lines += ["", "## Measures", "", *(f"* `{name}`: {words}." for name, words in MEASURES.items()), ""]
    return [*lines, f"Commit {told['commit']}, {told['hardware']}."]


def _run(model: str, found: dict[str, Any]) -> str:
    value, low, high = found["auc"]
    by_class = ", ".join(f"{name} {area:.2f} ({count})" for name, (area, count) in found["deletion_by_class"].items())
    figures = f"{found['slides']} | {by_class} | {found['other_seeds']} | {found['cpu_seconds']:.0f}"
    return f"| {model} | {value:.3f} ({low:.3f} to {high:.3f}) | {figures} |"


def _table(models: dict[str, Any], measures: tuple[str, ...]) -> list[str]:
    there = [one for one in measures if any(one in row for found in models.values() for row in found["means"].values())]
    lines = [f"| model | map | {' | '.join(there)} |", "|---" * (2 + len(there)) + "|"]
    for model, found in models.items():
        for name, row in found["means"].items():
            if any(one in row for one in there):
                lines.append(f"| {model} | {name} | {' | '.join(_cell(row.get(one)) for one in there)} |")
    return lines


def _cell(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    digits = 1 if abs(found["mean"]) >= 10 else 2
    low, high = (f"{found[end]:.{digits}f}" for end in ("low", "high"))
    return f"{found['mean']:.{digits}f} ({low} to {high})"


def _draw(models: dict[str, Any], path: Path) -> None:
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "dtcwsi",
        "font.size": 9,
        "axes.grid": True,
        "grid.color": "#e5e7eb",
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (way, words) in zip(panels, (("deletion", "taken away"), ("insertion", "added")), strict=True):
            for model, found in models.items():
                dashes = "--" if model.startswith("dtc-") else "-"
                colour = COLOURS[model.removeprefix("dtc-")]
                axes.plot(SHARES, found["curves"]["attention"][way], dashes, color=colour, label=model, linewidth=1.6)
            floor = np.mean([found["curves"]["random"][way] for found in models.values()], axis=0)
            axes.plot(SHARES, floor, ":", color="#4a5160", label="random order, mean of the models", linewidth=1.6)
            axes.set_xscale("function", functions=(np.sqrt, np.square))
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=f"share of patches {words} (root scale)")
            axes.set_xticks(TICKS, [f"{share:.0%}" for share in TICKS])
            axes.set_title(f"{way.capitalize()}, most attention first", loc="left", fontsize=10, fontweight="bold")
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("probability of the predicted class")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    write_page(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).parent)
