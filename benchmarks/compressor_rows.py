"""Fit compressed and plain models on needle tasks, real tissue, real MIL sets and the demo, one row a run; resumable.

python benchmarks/compressor_rows.py needles tissue mil demo decisions telling curve --work DIR
    [--tiles DIR] [--mil DIR] [--demo DIR] [--seeds N]

Every finished run is a line of docs/results/compressor.jsonl at once; runs that are there are not repeated.
`compressor_report.py` makes the tables.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import demo_bags
import mil_sets
import tissue_bags
from dtcwsi.benchmark.cohorts import needles
from dtcwsi.types import PackedBags
from fitting import RECIPE, fit, mean_of, packed_each
from provenance import provenance

ROWS = Path(__file__).parents[1] / "docs" / "results" / "compressor.jsonl"
SMALL = (0.4, 0.1, 0.02)
NEEDLE_TASKS = ("few-64", "few-256", "share-32", "weak-128", "placed-512", "lone-16", "late-256")
RECIPES = {"tissue": replace(RECIPE, epochs=20), "demo": replace(RECIPE, epochs=60)}

Split = tuple[list[PackedBags], list[PackedBags]]

SWITCHES: dict[str, dict[str, Any]] = {
    "default": {},
    "preset paper": {"preset": "paper"},
    "merge_share 0": {"merge_share": 0.0},
    "merge_share 0.5": {"merge_share": 0.5},
    "merge_share 1": {"merge_share": 1.0},
    "lam 0": {"lam": 0.0},
    "lam 1": {"lam": 1.0},
    "gap softmax": {"gap": "softmax"},
    "pairs all": {"pairs": "all"},
    "matching window": {"matching": "window"},
    "matching full": {"matching": "full"},
    "similarity scorer": {"similarity": "scorer"},
    "merge_by size": {"merge_by": "size"},
    "merge_by mass": {"merge_by": "mass"},
    "ranking mass": {"ranking": "mass"},
    "ranking random": {"ranking": "random"},
    "ranking printed": {"ranking": "printed"},
    "gate none": {"gate": "none"},
    "gate printed": {"gate": "printed"},
    "size_bias off": {"size_bias": False},
    "budget threshold": {"budget": "threshold"},
    "order given": {"order": "given"},
    "position paper": {"position": "paper"},
    "curriculum 0": {"curriculum": 0.0},
    "curriculum 0.8": {"curriculum": 0.8},
    "flat_start off": {"flat_start": False},
    "teach 0": {"teach": 0.0},
    "teach 0.5": {"teach": 0.5},
    "scorer_width 16": {"scorer_width": 16},
    "scorer_width 256": {"scorer_width": 256},
    "scorer_norm off": {"scorer_norm": False},
    "stages 1": {"stages": 1},
    "stages 5": {"stages": 5},
    "second_look off": {"second_look": False},
}


TELLING = ("preset paper", "pairs all", "ranking random", "ranking mass", "curriculum 0.8", "scorer_width 256")


@dataclass(frozen=True)
class Run:
    """One model fitted once."""

    group: str
    task: str
    label: str
    model: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """Name the run; two runs of one name are the same."""
        return json.dumps([self.group, self.task, self.model, self.options, self.seed], sort_keys=True)

    def name(self) -> dict[str, Any]:
        """Give the columns that say which run it is."""
        share = self.options.get("retention")
        named = {"group": self.group, "task": self.task, "label": self.label, "seed": self.seed, "retention": share}
        return {"key": self.key(), **named}

    def fit(self) -> str:
        """Name the fit; runs of several groups may be one."""
        return fit_of(self.key())


def fit_of(key: str) -> str:
    """Name the fit of a row by its key."""
    return json.dumps(json.loads(key)[1:], sort_keys=True)


def compressed(name: str, share: float) -> dict[str, Any]:
    """Give a budget as options; full matching in float64 would take most of the time of all runs."""
    return {"retention": share, "exact_ranking": False} if name == "tome" else {"retention": share}


def needle_runs(seeds: int) -> Iterator[Run]:
    """Plain attention and dtc at three budgets on every needle task; random sampling and the late task on two seeds."""
    for seed in range(seeds):
        for task in NEEDLE_TASKS if seed < 2 else NEEDLE_TASKS[:-1]:
            yield Run("needles", task, "abmil", "abmil", seed)
            for share in SMALL:
                for name in ("dtc", "random") if seed < 2 else ("dtc",):
                    yield Run("needles", task, name, f"{name}-abmil", seed, {"retention": share})


def tissue_runs(seeds: int) -> Iterator[Run]:
    """Ten seeds where the claim is made, three for the rest of the table."""
    for seed in range(seeds):
        yield Run("tissue", "tissue", "abmil", "abmil", seed)
        for share in (0.1, 0.02):
            yield Run("tissue", "tissue", "dtc", "dtc-abmil", seed, {"retention": share})
    for seed in range(min(3, seeds)):
        yield Run("tissue", "tissue", "mean", "mean", seed)
        for share in (0.4, 0.2, 0.1, 0.05, 0.02, 0.01):
            for name in ("dtc", "random", "tome"):
                yield Run("tissue", "tissue", name, f"{name}-abmil", seed, compressed(name, share))


def mil_runs(seeds: int) -> Iterator[Run]:
    """Small real bags: plain, and behind every compressor that has something to learn or none."""
    for seed in range(seeds):
        for task in mil_sets.SETS:
            yield Run("mil", task, "mean", "mean", seed)
            yield Run("mil", task, "abmil", "abmil", seed)
            for label, options in {"dtc": {}, "preset paper": {"preset": "paper"}}.items():
                yield Run("mil", task, label, "dtc-abmil", seed, {"retention": 0.4, **options})
            for name in ("random", "tome"):
                yield Run("mil", task, name, f"{name}-abmil", seed, compressed(name, 0.4))


def demo_runs(seeds: int) -> Iterator[Run]:
    """The demo's slides, drawn once; seeds deal the folds."""
    for seed in range(seeds):
        yield Run("demo", "demo", "mean", "mean", seed)
        yield Run("demo", "demo", "abmil", "abmil", seed)
        for share in (0.4, 0.1):
            for label, options in {"dtc": {}, "preset paper": {"preset": "paper"}}.items():
                yield Run("demo", "demo", label, "dtc-abmil", seed, {"retention": share, **options})
            for name in ("random", "tome"):
                yield Run("demo", "demo", name, f"{name}-abmil", seed, compressed(name, share))


def decision_runs(seeds: int) -> Iterator[Run]:
    """Every decision switched one at a time at a tenth of the tokens."""
    for seed in range(seeds):
        for task in ("lone-16", "tissue"):
            yield Run("decisions", task, "abmil", "abmil", seed)
            for label, options in SWITCHES.items():
                budget = {"retention": 0.1} if "schedule" not in options else {}
                yield Run("decisions", task, label, "dtc-abmil", seed, {**budget, **options})


def telling_runs(seeds: int) -> Iterator[Run]:
    """Switches whose interval left 0 on a screening task, and the default, on every kind of data; with plain attention.

    Real sets have seven instances a bag: they keep 0.4 of them.
    """
    for task in ("lone-16", "tissue", *mil_sets.SETS, "demo"):
        share = 0.4 if task in mil_sets.SETS else 0.1
        for seed in range(seeds):
            yield Run("decisions", task, "abmil", "abmil", seed)
            for label in ("default", *TELLING):
                yield Run("decisions", task, label, "dtc-abmil", seed, {"retention": share, **SWITCHES[label]})


def curve_runs(seeds: int) -> Iterator[Run]:
    """Quality against tokens for every compressor."""
    for seed in range(seeds):
        for task in ("weak-128", "tissue"):
            for share in (1.0, 0.7, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01):
                for name in ("dtc", "tome", "random", "merge-only", "prune-only", "k-means", "farthest-point"):
                    yield Run("curve", task, name, f"{name}-abmil", seed, compressed(name, share))


GROUPS = {
    "needles": (needle_runs, 8),
    "tissue": (tissue_runs, 10),
    "mil": (mil_runs, 5),
    "demo": (demo_runs, 5),
    "decisions": (decision_runs, 3),
    "telling": (telling_runs, 5),
    "curve": (curve_runs, 3),
}


class Bags:
    """Training and test bags of a task and seed, one pair or one a fold, the latest kept."""

    def __init__(self, work: Path, tiles: Path | None, mil: Path | None, demo: Path | None) -> None:
        self._work, self._tiles, self._mil, self._demo = work, tiles, mil, demo
        self._latest: tuple[tuple[str, int], list[Split]] | None = None

    def of(self, task: str, seed: int) -> list[Split]:
        """Draw 160 training bags and 200 (tissue: 600) fresh test bags; real sets and the demo have five folds."""
        if self._latest is None or self._latest[0] != (task, seed):
            self._latest = (task, seed), self._drawn(task, seed)
        return self._latest[1]

    def _drawn(self, task: str, seed: int) -> list[Split]:
        if task in mil_sets.SETS:
            if self._mil is None:
                raise SystemExit("real sets need --mil, the folder with elephant.npz, fox.npz and tiger.npz")
            folds = mil_sets.folds_of(self._mil / f"{task}.npz", seed)
            return [(packed_each(train), packed_each(test)) for train, test in folds]
        if task == "demo":
            if self._demo is None:
                raise SystemExit("the demo needs --demo, the folder that `dtcwsi demo` made")
            return [(packed_each(train), packed_each(test)) for train, test in demo_bags.folds_of(self._demo, seed)]
        if task == "tissue":
            if self._tiles is None:
                raise SystemExit("tissue needs --tiles, the folder with lung_n, lung_aca and lung_scc")
            features = tissue_bags.tile_features(self._tiles, self._work / "tiles.npz")
            train = tissue_bags.draw_bags(features, 160, test=False, seed=seed)
            return [(packed_each(train), packed_each(tissue_bags.draw_bags(features, 600, test=True, seed=seed)))]
        kind = needles.TASKS[task]
        train = needles.draw_bags(kind, 160, seed=2 * seed + 1000, world=seed)
        return [(packed_each(train), packed_each(needles.draw_bags(kind, 200, seed=2 * seed + 1001, world=seed)))]


def main() -> None:
    """Do the runs of the groups asked for that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="+", choices=list(GROUPS))
    parser.add_argument("--work", type=Path, required=True, help="where tile features are kept")
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--mil", type=Path)
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--tasks", nargs="+", help="only these tasks, so that several processes can share a group")
    parser.add_argument("--labels", nargs="+", help="only rows of these labels, such as abmil or random")
    parser.add_argument("--seeds", type=int, help="at most so many seeds a group")
    parser.add_argument("--rows", type=Path, default=ROWS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in asked.rows.read_text().splitlines()] if asked.rows.exists() else []
    done, fitted = {row["key"] for row in rows}, {fit_of(row["key"]): row for row in rows if row["key"].endswith("]")}
    bags = Bags(asked.work, asked.tiles, asked.mil, asked.demo)
    made = provenance()
    for group in asked.groups:
        runs, seeds = GROUPS[group]
        for run in runs(min(seeds, asked.seeds or seeds)):
            wanted = run.task in (asked.tasks or [run.task]) and run.label in (asked.labels or [run.label])
            if wanted and run.key() not in done:
                same = fitted.get(run.fit())  # groups share fits
                row = {**same, **run.name()} if same else _done(run, bags, made["commit"])
                with asked.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                done.add(run.key())
                fitted[run.fit()] = row


def _done(run: Run, bags: Bags, commit: str) -> dict[str, Any]:
    recipe = RECIPES.get(run.task, RECIPE)
    splits = bags.of(run.task, run.seed)
    fitted = mean_of([fit(run.model, run.options, *split, seed=run.seed, recipe=recipe) for split in splits])
    print(run.key(), f"{fitted.auc:.3f}", f"{fitted.seconds:.0f} s", flush=True)
    return {
        **run.name(),
        "auc": round(fitted.auc, 5),
        "accuracy": round(fitted.accuracy, 4),
        "tokens_in": round(fitted.tokens_in, 1),
        "tokens_out": round(fitted.tokens_out, 1),
        "train_s": round(fitted.seconds, 1),
        "commit": commit,
    }


if __name__ == "__main__":
    main()
