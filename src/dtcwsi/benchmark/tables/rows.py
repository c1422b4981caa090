"""One row of a table: its runs trained or found, a slide measured where the table asks for that."""

import math
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

__all__ = ["MadeRow", "measured_row", "trained_row", "with_speedups"]

_Tell = Callable[[str], None]
_TOLD = ("slides_left_out", "mixed_patients", "fold_ends", "fold_failed")


@dataclass(frozen=True)
class MadeRow:
    """A row: the paper's numbers and ours by metric, mean and deviation over folds and seeds, and the runs' folders.

    ``runs`` names the folders as a page does, relative to it; ``shared`` tells that some were trained beside others, so
    that their seconds are left out; ``searched`` says what a search found, fold by fold. ``ours`` is empty where
    nothing could be run; ``failed`` says why, or which folds are missing. ``compared`` sets it against the table's
    reference. ``samples`` are the values behind a metric, where it has several: of folds and seeds, or of a slide that
    was run again and again.
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
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


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
    told = {metric: _values(alone if metric in TIMED else records, metric) for metric in metrics}
    return replace(
        row,
        ours={metric: float(np.mean(values)) for metric, values in told.items() if values},
        ours_std={metric: float(np.std(values, ddof=1)) for metric, values in told.items() if len(values) > 1},
        runs=tuple(f"{record.folder.parent.name}/{record.folder.name}" for record in records),
        folders=tuple(record.folder for record in records),
        failed="; ".join(failed),
        shared=len(alone) < len(records),
        searched=tuple(found for record in records for found in _found(record)),
        samples={metric: tuple(values) for metric, values in told.items() if len(values) > 1},
    )


def measured_row(row: MadeRow, what: Configuration, shelf: Shelf, patches: int, device: str) -> MadeRow:
    """Add what a slide of ``patches`` takes; a total only where every stage of it is known."""
    cohort = shelf.cohort
    size = {"in_dim": cohort.in_dim, "n_classes": len(cohort.class_names)}
    try:
        found = measure(what.model, what.options, patches=patches, device=device, **size)
    except DtcwsiError as error:
        return replace(row, failed="; ".join(filter(None, (row.failed, str(error)))))
    mil = found.compress_ms + found.aggregate_ms
    told = {"gflop": found.gflop, **_counted(what, patches, size)}
    told |= {"compress_ms": found.compress_ms, "aggregate_ms": found.aggregate_ms, "mil_ms": mil}
    compress, aggregate = zip(*found.repeats, strict=True)
    samples = {"compress_ms": compress, "aggregate_ms": aggregate, "mil_ms": tuple(map(sum, found.repeats))}
    if found.extra_gib is not None:
        told["mil_gib"] = found.extra_gib
    before = {f"{step}_ms": 1000 * patches * seconds for step, seconds in shelf.seconds_a_patch.items()}
    told |= before
    if before:
        told["full_ms"] = mil + sum(before.values())
        samples["full_ms"] = tuple(one + sum(before.values()) for one in samples["mil_ms"])
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


def _tell(event: TrainingEvent, tell: _Tell) -> None:
    if event.kind in _TOLD:
        tell(f"  {event.message}")


def _values(records: Sequence[RunRecord], metric: str) -> list[float]:
    """List a metric's values over all folds and seeds; tokens and milliseconds once a run of an earlier version."""
    values: list[float] = []
    for told in (record.metrics for record in records):
        if metric in MEASURED:
            continue
        if metric == "tokens":
            tokens = told["tokens"]
            values += tokens.get("kept_share_by_fold", [tokens["kept_share"]]) if tokens else []
        elif metric == "ms":
            values += [1000 * seconds for seconds in _seconds_by_fold(told["seconds"])]
        elif metric == "epoch_s":
            values += [fold["epoch_seconds"] for fold in told["folds"].values() if "epoch_seconds" in fold]
        else:
            values += [
                100 * value
                for value in told["metrics"].get(scored_as(metric), {}).get("folds", [])
                if value is not None
            ]
    return [value for value in values if math.isfinite(value)]


def _seconds_by_fold(told: Mapping[str, Any]) -> list[float]:
    """Give the seconds that a slide took the model, fold by fold."""
    if not told:
        return []
    by_fold: list[float] = told.get("model_by_fold", [told["compress"] + told["aggregate"]])
    return by_fold
