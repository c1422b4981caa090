"""Train the comparison systems by one protocol on real MIL sets, needles, the demo and real tissue; resumable.

python benchmarks/systems_rows.py mil needles demo tissue demo-published tissue-published --rows
    docs/results/systems.jsonl --work DIR [--mil DIR] [--demo DIR] [--tissue DIR] [--systems NAME ...] [--seeds N]

mil: 10-fold cross-validation, five times for ABMIL, plain and gated. needles: bags with places, 160 to train on, 200
fresh ones to test. demo and tissue: runs as `dtcwsi bench table1 --out DIR/demo` makes them, by the common recipe
or, for the groups called published, `--recipe published --epochs 20`; seeds vary folds and weights; that command then
has nothing left to train. --demo is a folder of `dtcwsi demo`, --tissue
one of `cohort_seeds.py tissue`. Every finished run is a line at once.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import mil_sets
from compressor_speed import alone
from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.cohorts import needles
from dtcwsi.benchmark.demo import lesion_scores
from dtcwsi.benchmark.measuring import Peak
from dtcwsi.benchmark.tables.definitions import Configuration
from dtcwsi.benchmark.tables.shelf import Protocol, Shelf
from fitting import RECIPE, fit, mean_of, packed_each, scored
from provenance import provenance

NEED_PLACES = ("hipt", "longformer", "mamba2d")
SYSTEMS = {
    **{name: (name, {}) for name in AGGREGATORS.names()},
    "abmil gated": ("abmil", {"gated": True}),
    "random": ("random-abmil", {"retention": 0.4}),
    "tome": ("tome-abmil", {"retention": 0.4}),
    "dtc": ("dtc-abmil", {"retention": 0.4}),
}
MIL_RECIPE = replace(RECIPE, batch_size=4, lr=2e-4, weight_decay=5e-3)
MIL_EPOCHS = {"elephant": 10, "fox": 40, "tiger": 40}  # by set, as its authors chose learning rates by set
# these take 10 to 30 times abmil's time; hipt, which takes as much, had its 30 epochs on needles
SLOW = ("transmil", "mhim-transmil", "spt", "patchgd", "longformer", "mamba2d")
SLOW_EPOCHS = 10
# rates chosen for that set, as ABMIL's authors chose theirs set by set: by the common ones 0.797 and 0.796 came out
MIL_OWN = {(name, "tiger"): {"batch_size": 1, "lr": 1e-4, "weight_decay": 1e-2} for name in ("abmil", "abmil gated")}
MIL_OPTIONS = {name: {"dropout": 0.5} for name in ("abmil", "abmil gated")}  # Ilse et al. drop out on these sets
NEEDLES = "placed-64"
PUBLISHED = "-published"  # groups trained by each model's own recipe, all for as many epochs
PUBLISHED_EPOCHS = 20
SEEDS = 3


@dataclass(frozen=True)
class Run:
    """One system on one task, once."""

    group: str
    task: str
    system: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name the run; two runs of one name are the same."""
        return json.dumps([self.group, self.task, self.system, self.seed])


def runs_of(group: str, seeds: int) -> Iterator[Run]:
    """List the runs of a group, first seeds first."""
    for seed in range(5 if group == "mil" else seeds):
        for system in SYSTEMS:
            if group != "mil":
                yield Run(group, NEEDLES if group == "needles" else group.removesuffix(PUBLISHED), system, seed)
            elif system not in NEED_PLACES and (seed == 0 or system.startswith("abmil")):
                yield from (Run(group, task, system, seed) for task in mil_sets.SETS)


def on_mil(run: Run, asked: argparse.Namespace) -> dict[str, Any]:
    """Cross-validate on a small real set, features standardised by each training part."""
    name, options = SYSTEMS[run.system]
    options = {**options, **MIL_OPTIONS.get(run.system, {})}
    epochs = SLOW_EPOCHS if run.system in SLOW else MIL_EPOCHS[run.task]
    recipe = replace(MIL_RECIPE, epochs=epochs, **MIL_OWN.get((run.system, run.task), {}))
    splits = mil_sets.folds_of(asked.mil / f"{run.task}.npz", run.seed, folds=10)
    fits = [
        fit(name, options, packed_each(train), packed_each(test), seed=run.seed, recipe=recipe)
        for train, test in splits
    ]
    fitted = mean_of(fits)
    return {"auc": fitted.auc, "accuracy": fitted.accuracy, "train_s": fitted.seconds * len(fits)}


def on_needles(run: Run, _: argparse.Namespace) -> dict[str, Any]:
    """Fit to drawn bags and score fresh ones."""
    name, options = SYSTEMS[run.system]
    task, seed = needles.TASKS[run.task], run.seed
    train = needles.draw_bags(task, 160, seed=2 * seed + 1000, world=seed)
    test = needles.draw_bags(task, 200, seed=2 * seed + 1001, world=seed)
    recipe = replace(RECIPE, epochs=SLOW_EPOCHS) if run.system in SLOW else RECIPE
    seen, last = packed_each(train), []
    fitted = fit(name, options, seen, packed_each(test), seed=seed, recipe=recipe, on_epoch=lambda _, m: last.append(m))
    learned = scored(last[-1], seen, 0.0).auc
    return {"auc": fitted.auc, "seen_auc": learned, "accuracy": fitted.accuracy, "train_s": fitted.seconds}


def on_cohort(run: Run, asked: argparse.Namespace) -> dict[str, Any]:
    """Cross-validate on slides, as `dtcwsi bench` does."""
    source = getattr(asked, run.task)
    own = Protocol(recipe="published", epochs=PUBLISHED_EPOCHS)
    protocol = own if run.group.endswith(PUBLISHED) else Protocol()
    shelf = Shelf(asked.work / run.task / "runs", read_cohort(source / "labels.csv", source), protocol)
    record = shelf.train(Configuration(*SYSTEMS[run.system]), run.seed)
    if record.failed_folds:
        raise RuntimeError(f"folds failed: {record.failed_folds}")
    told = record.metrics
    row = {
        "auc": told["metrics"]["auc"]["mean"],
        "accuracy": told["metrics"]["accuracy"]["mean"],
        "train_s": told["seconds"]["train_per_fold"] * told["n_folds"],
    }
    if (source / "truth").is_dir():
        features = next((source / "features").iterdir())
        row["lesion_auroc"] = lesion_scores(record.folder, features, source / "truth")
    return row


COHORTS = ("demo", "tissue", "demo" + PUBLISHED, "tissue" + PUBLISHED)
TASKS = {"mil": on_mil, "needles": on_needles, **dict.fromkeys(COHORTS, on_cohort)}


def done(run: Run, asked: argparse.Namespace) -> dict[str, Any]:
    """Do a run in this process, which does no other; memory is its peak beyond what it began with."""
    torch.set_num_threads(1)
    with Peak() as peak:
        found = TASKS[run.group](run, asked)
    return {**found, "extra_mib": peak.extra_mib}


def main() -> None:
    """Do the runs that have no row yet; one that fails is told and left for the next time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="+", choices=list(TASKS))
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for training runs")
    parser.add_argument("--mil", type=Path)
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--tissue", type=Path)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of needles, demo and tissue")
    asked = parser.parse_args()
    known = {json.loads(line)["key"] for line in asked.rows.read_text().splitlines()} if asked.rows.exists() else set()
    made: dict[str, Any] = {"commit": provenance()["commit"], "cores": os.cpu_count()}
    if torch.cuda.is_available():
        made["gpu"] = torch.cuda.get_device_name()
    for run in (run for group in asked.groups for run in runs_of(group, asked.seeds)):
        if run.key in known or run.system not in (asked.systems or SYSTEMS):
            continue
        named = {"key": run.key, "group": run.group, "task": run.task, "system": run.system, "seed": run.seed}
        try:
            found = alone(done, run, asked)
        except Exception as error:  # noqa: BLE001  # the other systems are worth their hours
            print(f"{run.key} failed: {type(error).__name__}: {error}", flush=True)
            continue
        row = {**named, **{name: round(value, 5) for name, value in found.items()}, **made}
        with asked.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
