"""A table made: every row's runs trained, a slide measured where it asks for that, its numbers beside the paper's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from dtcwsi.benchmark.measuring import measure
from dtcwsi.benchmark.tables.definitions import MEASURED, Configuration, Table
from dtcwsi.benchmark.tables.shelf import Shelf
from dtcwsi.errors import DtcwsiError
from dtcwsi.training.crossval import RunRecord, TrainingEvent

__all__ = ["MadeRow", "MadeTable", "make_table"]

_Tell = Callable[[str], None]


@dataclass(frozen=True)
class MadeRow:
    """A row: the paper's numbers and ours by metric, mean and deviation over folds and seeds, and the runs' folders.

    ``ours`` is empty where nothing could be run; ``failed`` says why, or which folds are missing.
    """

    name: str
    columns: Mapping[str, str]
    paper: Mapping[str, float]
    ours: Mapping[str, float] = field(default_factory=dict)
    ours_std: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class MadeTable:
    """All rows, the cohort that they are of, and the cohort of the paper that stands beside it.

    ``measured`` says what slide was measured where, and is empty where none was.
    """

    name: str
    table: Table
    beside: str
    cohort: str
    slides: int
    patients: int
    protocol: Mapping[str, Any]
    measured: str
    rows: tuple[MadeRow, ...]

    @property
    def complete(self) -> bool:
        """True if every row that could be run has all its folds."""
        return not any(row.failed for row in self.rows)


def make_table(
    name: str,
    table: Table,
    shelves: Sequence[Shelf],
    *,
    beside: str,
    cohort: str,
    patches: int = 13_900,
    device: str = "cpu",
    tell: _Tell = lambda _: None,
) -> MadeTable:
    """Train what is missing, row by row, and set it beside the paper's column of the cohort ``beside``.

    ``shelves`` hold the runs on each kind of features; a row of a kind that is not there is not run. A row that fails
    is told and does not end the others. Tables that measure do so with one slide of ``patches`` on ``device``.
    """
    rows = []
    for row, what in table.rows.items():
        number = table.encoders.get(row, 0)
        columns = dict(table.columns.get(row, {}))
        blank = MadeRow(row, columns, table.paper.get(row, {}).get(beside, {}))
        if number >= len(shelves):
            rows.append(blank)
            continue
        tell(f"{name} {row}")
        shelf = shelves[number]
        if table.encoders:
            columns["encoder"] = str(shelf.cohort.made_by.get("encoder") or "unknown")
        made = _trained(table, blank, what, shelf, tell)
        rows.append(_measured(made, what, shelf, patches, device) if table.measured else made)
    return MadeTable(
        name=name,
        table=table,
        beside=beside,
        cohort=cohort,
        slides=len(shelves[0].cohort.slides),
        patients=len(set(shelves[0].cohort.patients)),
        protocol=vars(shelves[0].protocol),
        measured=f"{patches:,} patches on {device}, {torch.get_num_threads()} threads" if table.measured else "",
        rows=_with_speedups(rows),
    )


def _trained(table: Table, row: MadeRow, what: Configuration, shelf: Shelf, tell: _Tell) -> MadeRow:
    records, failed = [], []
    for seed in range(shelf.protocol.seeds):
        try:
            record = shelf.train(what, seed, lambda event: _tell(event, tell))
        except DtcwsiError as error:
            failed.append(str(error))
            continue
        records.append(record)
        failed += [f"fold {fold}: {why}" for fold, why in record.failed_folds.items()]
    told = {metric: _values(records, metric) for metric in table.metrics}
    return replace(
        row,
        ours={metric: float(np.mean(values)) for metric, values in told.items() if values},
        ours_std={metric: float(np.std(values, ddof=1)) for metric, values in told.items() if len(values) > 1},
        runs=tuple(f"{record.folder.parent.name}/{record.folder.name}" for record in records),
        failed="; ".join(failed),
    )


def _measured(row: MadeRow, what: Configuration, shelf: Shelf, patches: int, device: str) -> MadeRow:
    """Add what a slide takes; a total only where every stage of it is known."""
    cohort = shelf.cohort
    size = {"in_dim": cohort.in_dim, "n_classes": len(cohort.class_names)}
    try:
        found = measure(what.model, what.options, patches=patches, device=device, **size)
    except DtcwsiError as error:
        return replace(row, failed="; ".join(filter(None, (row.failed, str(error)))))
    mil = found.compress_ms + found.aggregate_ms
    told = {"gflop": found.gflop, "compress_ms": found.compress_ms, "aggregate_ms": found.aggregate_ms, "mil_ms": mil}
    if found.extra_gib is not None:
        told["mil_gib"] = found.extra_gib
    before = {f"{step}_ms": 1000 * patches * seconds for step, seconds in shelf.seconds_a_patch.items()}
    told |= before
    if before:
        told["full_ms"] = mil + sum(before.values())
    return replace(row, ours={**row.ours, **told})


def _with_speedups(rows: Sequence[MadeRow]) -> tuple[MadeRow, ...]:
    """Say how many times faster than the first row each one is."""
    made = []
    for row in rows:
        told = {
            name: rows[0].ours[whole] / row.ours[whole]
            for name, whole in (("speedup", "full_ms"), ("mil_speedup", "mil_ms"))
            if whole in rows[0].ours and whole in row.ours
        }
        made.append(replace(row, ours={**row.ours, **told}))
    return tuple(made)


def _tell(event: TrainingEvent, tell: _Tell) -> None:
    if event.kind in ("fold_ends", "fold_failed"):
        tell(f"  {event.message}")


def _values(records: list[RunRecord], metric: str) -> list[float]:
    """List a metric's values over all folds and seeds; tokens and milliseconds are told once a run."""
    values: list[float] = []
    for told in (record.metrics for record in records):
        if metric in MEASURED:
            continue
        if metric == "tokens":
            values += [told["tokens"]["kept_share"]] if told["tokens"] else []
        elif metric == "ms":
            values += [1000 * (told["seconds"]["compress"] + told["seconds"]["aggregate"])] if told["seconds"] else []
        elif metric == "epoch_s":
            values += [fold["train_seconds"] / fold["epochs"] for fold in told["folds"].values()]
        else:
            name = {"acc": "accuracy"}.get(metric, metric)
            values += [100 * value for value in told["metrics"].get(name, {}).get("folds", []) if value is not None]
    return [value for value in values if math.isfinite(value)]
