"""One row of a table: its runs trained or found, a slide measured where the table asks for that."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtcwsi.benchmark.cost import slide_cost
from dtcwsi.benchmark.measuring import measure
from dtcwsi.benchmark.tables.comparing import Compared
from dtcwsi.benchmark.tables.definitions import MEASURED, TIMED, Configuration, scored_as
from dtcwsi.benchmark.tables.shelf import Shelf
from dtcwsi.errors import DtcwsiError, OptionError
from dtcwsi.models import create_model
from dtcwsi.training.crossval import RunRecord, TrainingEvent
from dtcwsi.training.run_folder import RunFolder
from dtcwsi.training.search import shown

__all__ = ["PROCESSES", "MadeRow", "measured_row", "trained_row", "with_speedups"]

_Tell = Callable[[str], None]
PROCESSES = 5  # that measure a row: one differs from the next by more than a process from itself
_TOLD = ("slides_left_out", "renamed", "classes_alike", "mixed_patients", "trial", "fold_ends", "fold_failed")


@dataclass(frozen=True)
class MadeRow:
    """A row: the paper's numbers and ours by metric, mean and deviation over folds and seeds, and the runs' folders.

    ``runs`` names the folders as a page does, relative to it; ``shared`` tells that some were trained beside others, so
    that their seconds are left out; ``searched`` says what a search found, fold by fold. ``ours`` is empty where
    nothing could be run; ``failed`` says why, or which folds are missing. ``compared`` sets it against the table's
    reference. ``samples`` are the values behind a metric by where they come from: folds and seeds, or the processes
    that measured a slide. ``devices`` are those that trained, ``trained_by`` their source code and torch; ``n_folds``
    are finished, of all seeds, and ``finished`` says of how many, where some are missing.
    """

    name: str
    columns: Mapping[str, str]
    paper: Mapping[str, float]
    ours: Mapping[str, float] = field(default_factory=dict)
    ours_std: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    failed: str = ""
    shared: bool = False
    searched: tuple[str, ...] = ()
    compared: Compared | None = None
    samples: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    trained_by: tuple[str, ...] = ()
    n_folds: int = 0
    finished: str = ""


def trained_row(row: MadeRow, metrics: Sequence[str], what: Configuration, shelf: Shelf, tell: _Tell) -> MadeRow:
    """Train what is missing of a row's runs, and sum their ``metrics`` up over folds and seeds.

    A run that cannot be made leaves its reason in the row.
    """
    records, failed = [], []
    for seed in range(shelf.protocol.seeds):
        try:
            record = shelf.train(what, seed, lambda event: _tell(event, tell))
        except DtcwsiError as error:
            failed.append(str(error))
            continue
        records.append(record)
        failed += [f"fold {fold}: {why}" for fold, why in record.failed_folds.items()]
    alone = [record for record in records if not RunFolder.shared_machine(record.folder)]
    told = {metric: _samples(alone if metric in TIMED else records, metric) for metric in metrics}
    values = {metric: list(samples.values()) for metric, samples in told.items()}
    return replace(
        row,
        ours={metric: float(np.mean(each)) for metric, each in values.items() if each},
        ours_std={metric: float(np.std(each, ddof=1)) for metric, each in values.items() if len(each) > 1},
        runs=tuple(f"{record.folder.parent.name}/{record.folder.name}" for record in records),
        folders=tuple(record.folder for record in records),
        failed="; ".join(failed),
        shared=len(alone) < len(records),
        searched=tuple(found for record in records for found in _found(record)),
        samples={metric: samples for metric, samples in told.items() if samples},
        n_folds=sum(len(record.metrics["folds"]) for record in records),
        finished=_finished(records, shelf.protocol.seeds) if failed else "",
        devices=tuple(
            sorted({fold["device"] for one in records for fold in one.metrics["folds"].values() if "device" in fold})
        ),
        trained_by=tuple(sorted({by for record in records for by in RunFolder.trained_by(record.folder)})),
    )


def measured_row(row: MadeRow, what: Configuration, shelf: Shelf, patches: int, device: str) -> MadeRow:
    """Add what a slide of ``patches`` takes, medians of several processes; a total only where every stage is known."""
    cohort = shelf.cohort
    size = {"in_dim": cohort.in_dim, "n_classes": len(cohort.class_names)}
    try:
        found = [measure(what.model, what.options, patches=patches, device=device, **size) for _ in range(PROCESSES)]
    except DtcwsiError as error:
        return replace(row, failed="; ".join(filter(None, (row.failed, str(error)))))
    each = {name: [getattr(one, name) for one in found] for name in ("compress_ms", "aggregate_ms", "mil_ms")}
    gib = [one.peak_gib for one in found if one.peak_gib is not None]
    each |= {"mil_gib": gib} if gib else {}
    before = {f"{step}_ms": 1000 * patches * seconds for step, seconds in shelf.seconds_a_patch.items()}
    each |= {"full_ms": [mil + sum(before.values()) for mil in each["mil_ms"]]} if before else {}
    told = {"gflop": found[0].gflop, **_counted(what, patches, size), **before}
    told |= {name: statistics.median(values) for name, values in each.items()}
    samples = {name: {f"process {n}": value for n, value in enumerate(values)} for name, values in each.items()}
    return replace(row, ours={**row.ours, **told}, samples={**row.samples, **samples})


def _counted(what: Configuration, patches: int, size: Mapping[str, int]) -> dict[str, float]:
    """Count the products and other arithmetic of a slide by the cost model, where that knows the system."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn and thrown away
        model = create_model(what.model, **size, **what.options)
    try:
        parts = slide_cost(model, patches).values()
    except OptionError:
        return {}
    return {"cost_gflop": sum(part.products + part.elementwise for part in parts) / 1e9}


def with_speedups(rows: Sequence[MadeRow]) -> list[MadeRow]:
    """Say how many times faster than the first row each one is."""
    made = []
    for row in rows:
        told = {
            name: rows[0].ours[whole] / row.ours[whole]
            for name, whole in (("speedup", "full_ms"), ("mil_speedup", "mil_ms"))
            if whole in rows[0].ours and whole in row.ours
        }
        made.append(replace(row, ours={**row.ours, **told}))
    return made


def _found(record: RunRecord) -> list[str]:
    told = record.metrics
    return [
        f"seed {told['seed']}, fold {fold}: {shown(trained['search']['best'])}"
        for fold, trained in told["folds"].items()
        if "search" in trained
    ]


def _finished(records: Sequence[RunRecord], seeds: int) -> str:
    """Say how many of all folds there are; of a run that could not be begun nobody knows them."""
    folds = max((record.metrics["n_folds"] for record in records), default=0)
    there = sum(len(record.metrics["folds"]) for record in records)
    return f"{there} of {folds * seeds}" if there else ""


def _tell(event: TrainingEvent, tell: _Tell) -> None:
    if event.kind in _TOLD:
        tell(f"  {event.message}")


def _samples(records: Sequence[RunRecord], metric: str) -> dict[str, float]:
    """Give a metric's values by seed and fold; what is measured on a slide has none."""
    samples: dict[str, float] = {}
    for told in () if metric in MEASURED else (record.metrics for record in records):
        for fold, value in zip(told["folds"], _by_fold(told, metric), strict=True):
            if value is not None and math.isfinite(value):
                samples[f"seed {told['seed']}, fold {fold}"] = float(value)
    return samples


def _by_fold(told: Mapping[str, Any], metric: str) -> list[float | None]:
    """List a metric of a run, fold by fold."""
    if metric == "epoch_s":
        return [fold.get("epoch_seconds") for fold in told["folds"].values()]
    folds: list[float | None] = [None] * len(told["folds"])
    if not folds:
        return folds
    if metric == "tokens":
        return list(told["tokens"]["kept_share_by_fold"])
    if metric == "ms":
        return [1000 * seconds for seconds in told["seconds"]["model_by_fold"]]
    values = told["metrics"].get(scored_as(metric), {}).get("folds", folds)
    return [None if value is None else 100 * value for value in values]
