"""Write docs/results/search.md: what a search chose in every fold, and what it was worth.

python benchmarks/search_page.py RUN[=UNSEARCHED] ... --out docs/results/search.md

RUN is the folder of `dtcwsi train --search`, UNSEARCHED that of the same model on the same folds without.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from dtcwsi.benchmark.tables.comparing import compare_runs
from dtcwsi.training.search import shown

HEAD = """# Options searched fold by fold

Made by `python benchmarks/search_page.py`. Five folds of the tissue cohort (60 slides composed of real tiles, five
disjoint pools), each model by its published recipe, at most 20 epochs, 10 trainings a fold: options are those of the
least loss on the validation part of a fold, drawn by TPE, all ten at random here, and cut off by the median of the
trials before them. The fold itself chooses nothing. Without: the same model, folds and seed with its defaults.
Seed 0, commit 8c7292b, an AMD EPYC of two cores (abmil and clam-mb without a search: of sixteen); options and budget
are in each run's settings.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    parts = [HEAD]
    for pair in asked.runs:
        run, _, plain = pair.partition("=")
        parts.append(_section(Path(run), Path(plain) if plain else None))
    asked.out.write_text("\n".join(parts))


def _section(run: Path, plain: Path | None) -> str:
    told, settings = (json.loads((run / name).read_text()) for name in ("metrics.json", "settings.json"))
    without = None if plain is None else json.loads((plain / "metrics.json").read_text())
    space = "; ".join(f"{name} {values}" for name, values in settings["search"]["space"].items())
    lines = [f"## {settings['model']}", "", f"Searched, {settings['search']['trials']} trials a fold: {space}.", ""]
    lines.append("| fold | chosen | validation loss | cut off | AUC | AUC without |")
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for fold, trained in told["folds"].items():
        found = trained["search"]
        beside = "" if without is None else _auc(without["folds"][fold])
        cells = (fold, shown(found["best"]), f"{found['val_loss']:.3f}", str(found["pruned"]), _auc(trained), beside)
        lines.append("| " + " | ".join(cells) + " |")
    seconds = sum(trained["train_seconds"] for trained in told["folds"].values())
    beside = "" if without is None else f", without the search {_mean(without)}"
    lines += ["", f"AUC {_mean(told)}{beside}; all trials {seconds:.0f} s of one core, with other work beside."]
    one = None if plain is None else compare_runs("without", [run], [plain], "auc")
    if one is not None:
        sure = "; too few patients for an interval" if one.few else f" [{one.low:+.1f}, {one.high:+.1f}]"
        lines.append(f"AUC of all folds together, with it minus without, in points: {one.value:+.1f}{sure}.")
    return "\n".join(lines) + "\n"


def _auc(fold: dict[str, Any]) -> str:
    return f"{fold['metrics']['auc']:.3f}"


def _mean(told: dict[str, Any]) -> str:
    auc = told["metrics"]["auc"]
    return f"{auc['mean']:.3f} ± {auc['std']:.3f}"


if __name__ == "__main__":
    main()
