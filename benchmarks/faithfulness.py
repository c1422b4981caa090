"""Whether the maps of five models can be trusted, on the demo's slides and on slides composed of real tiles.

python benchmarks/faithfulness.py --work DIR --cohort NAME FEATURES TRUTH RUN... [--cohort ...]

FEATURES is a folder of features, TRUTH one of lesion masks (16 level-0 pixels a pixel), every RUN a finished run of
`dtcwsi train` or `bench`; of each model the run of the lowest seed is measured and compared with those of other seeds.
Finished runs are kept in DIR. Writes docs/results/faithfulness.json, a figure a cohort beside it, and the tables of
faithfulness.md, below the line that says so; what stands above that line was written by hand.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtcwsi.benchmark.faithfulness import RunScores, measure_run
from dtcwsi.explain.faithfulness import Draws
from dtcwsi.explain.faithfulness.table import estimates
from dtcwsi.inference import load_run
from dtcwsi.store.features import feature_files
from faithfulness_page import write_page
from provenance import provenance, save

MODELS = ("abmil", "clam-sb", "transmil", "dtc-abmil", "dtc-transmil")


def main() -> None:
    """Measure every cohort's models and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="keeps what was measured")
    parser.add_argument("--cohort", nargs="+", action="append", required=True, metavar="NAME FEATURES TRUTH RUN")
    parser.add_argument("--orders", type=int, default=2, help="random orders a slide")
    parser.add_argument("--weights", type=int, default=2, help="times that weights are drawn anew")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/results/faithfulness.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    draws = Draws(orders=asked.orders, weights=asked.weights)
    cohorts: dict[str, dict[str, Any]] = {}
    for name, features, truth, *folders in asked.cohort:
        by_model = runs_of([Path(folder) for folder in folders])
        cohorts[name] = {}
        for model in (model for model in MODELS if model in by_model):
            kept = asked.work / f"{name}-{'-'.join(folder.name for folder in by_model[model])}.json"
            if not kept.exists():
                found = measured(by_model[model], Path(features), Path(truth), draws)
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(found, indent=1))
            cohorts[name][model] = json.loads(kept.read_text())
            print(name, model, flush=True)
    told = {**provenance(orders=asked.orders, weights=asked.weights), "cohorts": cohorts}
    save(asked.out, told)
    write_page(told, asked.out.parent)


def runs_of(folders: list[Path]) -> dict[str, list[Path]]:
    """Sort run folders by model, each model's by seed."""
    by_model: dict[str, dict[int, Path]] = defaultdict(dict)
    for folder in folders:
        told = json.loads((folder / "metrics.json").read_text())
        known = by_model[told["model"]].setdefault(told["seed"], folder)
        if known != folder:
            raise SystemExit(f"{known} and {folder} are both {told['model']} of seed {told['seed']}; name one of them")
    return {model: [folder for _, folder in sorted(runs.items())] for model, runs in by_model.items()}


def measured(folders: list[Path], features: Path, truth: Path, draws: Draws) -> dict[str, Any]:
    """Measure the first run against the others."""
    start = time.process_time()
    run, *others = [load_run(folder) for folder in folders]
    files = {name: path for name, path in feature_files(features).items() if name in run.patients}
    found = measure_run(run, files, others=others, truth=truth, draws=draws)
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    auc = metrics["metrics"]["auc"]
    means = estimates(found.slides, found.patients)
    return {
        "run": folders[0].name,
        "seed": metrics["seed"],
        "other_seeds": len(others),
        "recipe": metrics.get("recipe"),
        "auc": [auc["pooled"], *auc["interval_95"]],
        "slides": len(found.slides),
        "patients": len(set(found.patients)),
        "failed": found.failed,
        "cpu_seconds": time.process_time() - start,
        "means": {name: {one: asdict(value) for one, value in row.items()} for name, row in means.items()},
        "deletion_by_class": deletion_by_class(found),
        "curves": mean_probabilities(found),
    }


def deletion_by_class(found: RunScores) -> dict[str, list[float]]:
    """Average attention's deletion over the slides predicted to be of each class, and count them.

    A slide without its lesion is still given a class; where it is the class predicted before, nothing can fall.
    """
    areas: dict[str, list[float]] = defaultdict(list)
    for slide in found.slides:
        areas[slide.prediction].append(slide.maps["attention"].curves.deletion.probability_area)
    return {name: [float(np.mean(each)), len(each)] for name, each in sorted(areas.items())}


def mean_probabilities(found: RunScores) -> dict[str, dict[str, list[float]]]:
    """Average the curves of the probability over slides, by map and way."""
    names = list(found.slides[0].maps)
    of = {name: [slide.maps[name].curves for slide in found.slides] for name in names}
    of["random"] = [slide.random for slide in found.slides]
    return {
        name: {
            way: np.mean([getattr(curves, way).probability for curves in each], axis=0).round(4).tolist()
            for way in ("deletion", "insertion")
        }
        for name, each in of.items()
    }


if __name__ == "__main__":
    main()
