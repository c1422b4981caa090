"""Mean pooling, ABMIL and DTC-ABMIL over seeds: on the demo's cohort, or on slides composed from real tiles.

    python benchmarks/cohort_seeds.py demo --work /tmp/demo --seeds 0 1 2
    python benchmarks/cohort_seeds.py tissue --tiles /data/tissue --work /tmp/tissue --seeds 0 1 2

The demo draws another cohort a seed, so that its seeds vary slides, folds and weights. Real tiles are few: their slides
are composed once, folds are the tile pools, and seeds vary the weights and the validation part.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dtcwsi.benchmark.cohorts.composed import compose_cohort
from provenance import provenance, save

MODELS = ("abmil", "mean", "dtc-abmil")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", choices=("demo", "tissue"))
    parser.add_argument("--work", type=Path, required=True, help="folder for slides, features and runs")
    parser.add_argument("--tiles", type=Path, help="folder with lung_n, lung_aca, lung_scc and groups.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="JSON to write; docs/results/<cohort>.json without")
    arguments = parser.parse_args()
    rows = demo(arguments.work, arguments.seeds) if arguments.cohort == "demo" else tissue(arguments)
    show(rows)
    content = {**provenance(cohort=arguments.cohort, seeds=arguments.seeds), "runs": rows, "summary": summary(rows)}
    save(arguments.out or Path("docs/results") / f"{arguments.cohort}.json", content)


def demo(work: Path, seeds: list[int]) -> list[dict]:
    rows = []
    for seed in seeds:
        out = work / f"seed{seed}"
        dtcwsi("demo", "--seed", seed, "--out", out)
        told = json.loads((out / "demo.json").read_text())
        for model, score in told["lesion_auroc"].items():
            metrics = json.loads((out / "runs" / model / "metrics.json").read_text())
            rows.append(row(model, seed, metrics, told["seconds"]) | {"lesion_auroc": score})
    return rows


def tissue(arguments: argparse.Namespace) -> list[dict]:
    work, rows = arguments.work, []
    start = time.perf_counter()
    compose_cohort(arguments.tiles, work, seed=0)
    seconds = {"compose slides": time.perf_counter() - start}
    start = time.perf_counter()
    dtcwsi("extract", work / "slides", "--out", work)
    seconds["extract features"] = time.perf_counter() - start
    for seed in arguments.seeds:
        for model in MODELS:
            run = work / "runs" / f"{model}-{seed}"
            cohort = ("--features", work, "--labels", work / "labels.csv")
            dtcwsi("train", *cohort, "--model", model, "--seed", seed, "--out", run)
            rows.append(row(model, seed, json.loads((run / "metrics.json").read_text()), seconds))
    return rows


def dtcwsi(*arguments: object) -> None:
    """Run the real command; a failing one ends the benchmark."""
    subprocess.run([sys.executable, "-m", "dtcwsi", *map(str, arguments)], check=True)


def row(model: str, seed: int, metrics: dict, seconds: dict[str, float]) -> dict:
    figures = metrics["metrics"]
    return {
        "model": model,
        "seed": seed,
        "auc": figures["auc"]["mean"],
        "auc_std": figures["auc"]["std"],
        "auc_pooled": figures["auc"]["pooled"],
        "auc_interval_95": figures["auc"]["interval_95"],
        "accuracy": figures["accuracy"]["mean"],
        "accuracy_std": figures["accuracy"]["std"],
        "tokens_in": metrics["tokens"]["in"],
        "tokens_out": metrics["tokens"]["out"],
        "seconds": {**seconds, "train": metrics["seconds"]["train_per_fold"] * metrics["n_folds"]},
    }


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    table = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        table[model] = {
            key: float(np.mean([row[key] for row in own]))
            for key in ("auc", "auc_pooled", "accuracy", "tokens_in", "tokens_out", "lesion_auroc")
            if key in own[0]
        } | {"auc_worst_seed": min(row["auc"] for row in own), "auc_best_seed": max(row["auc"] for row in own)}
    return table


def show(rows: list[dict]) -> None:
    for one in rows:
        low, high = one["auc_interval_95"]
        print(
            f"{one['model']:10} seed {one['seed']}: AUC {one['auc']:.3f} ± {one['auc_std']:.3f}, "
            f"pooled {one['auc_pooled']:.3f} ({low:.3f} to {high:.3f}), "
            f"accuracy {one['accuracy']:.3f} ± {one['accuracy_std']:.3f}, "
            f"tokens {one['tokens_in']:.0f} -> {one['tokens_out']:.0f}, "
            f"lesion AUROC {one.get('lesion_auroc', float('nan')):.3f}"
        )


if __name__ == "__main__":
    main()
