"""A table made: every row's runs trained, its numbers beside the paper's."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtcwsi.benchmark.tables.definitions import Configuration, Table
from dtcwsi.benchmark.tables.shelf import Shelf
from dtcwsi.errors import DtcwsiError
from dtcwsi.training.crossval import RunRecord, TrainingEvent

__all__ = ["MadeRow", "MadeTable", "make_table"]


@dataclass(frozen=True)
class MadeRow:
    """A row: the paper's numbers and ours by metric, mean and deviation over folds and seeds, and the runs' folders.

    ``ours`` is empty where nothing could be run; ``failed`` says why, or which folds are missing.
    """

    name: str
    columns: Mapping[str, str]
    paper: Mapping[str, float]
    ours: Mapping[str, float]
    ours_std: Mapping[str, float]
    runs: tuple[str, ...]
    failed: str = ""


@dataclass(frozen=True)
class MadeTable:
    """All rows, the cohort that they are of, and the cohort of the paper that stands beside it."""

    name: str
    table: Table
    beside: str
    cohort: str
    slides: int
    patients: int
    protocol: Mapping[str, Any]
    rows: tuple[MadeRow, ...]

    @property
    def complete(self) -> bool:
        """True if every row has all its folds."""
        return not any(row.failed for row in self.rows)


def make_table(
    name: str, table: Table, shelf: Shelf, *, beside: str, cohort: str, tell: Callable[[str], None] = lambda _: None
) -> MadeTable:
    """Train what is missing, row by row, and set it beside the paper's column of the cohort ``beside``.

    A row that fails is told and does not end the others.
    """
    rows = []
    for row, what in table.rows.items():
        tell(f"{name} {row}")
        rows.append(_made(table, row, what, shelf, beside, tell))
    return MadeTable(
        name=name,
        table=table,
        beside=beside,
        cohort=cohort,
        slides=len(shelf.cohort.slides),
        patients=len(set(shelf.cohort.patients)),
        protocol=vars(shelf.protocol),
        rows=tuple(rows),
    )


def _made(
    table: Table, name: str, what: Configuration, shelf: Shelf, beside: str, tell: Callable[[str], None]
) -> MadeRow:
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
    return MadeRow(
        name=name,
        columns=table.columns.get(name, {}),
        paper=table.paper.get(name, {}).get(beside, {}),
        ours={metric: float(np.mean(values)) for metric, values in told.items() if values},
        ours_std={metric: float(np.std(values, ddof=1)) for metric, values in told.items() if len(values) > 1},
        runs=tuple(f"{record.folder.parent.name}/{record.folder.name}" for record in records),
        failed="; ".join(failed),
    )


def _tell(event: TrainingEvent, tell: Callable[[str], None]) -> None:
    if event.kind in ("fold_ends", "fold_failed"):
        tell(f"  {event.message}")


def _values(records: list[RunRecord], metric: str) -> list[float]:
    """List a metric's values over all folds and seeds; tokens and milliseconds are told once a run."""
    values: list[float] = []
    for told in (record.metrics for record in records):
        if metric == "tokens":
            values += [told["tokens"]["kept_share"]] if told["tokens"] else []
        elif metric == "ms":
            values += [1000 * (told["seconds"]["compress"] + told["seconds"]["aggregate"])] if told["seconds"] else []
        else:
            name = {"acc": "accuracy"}.get(metric, metric)
            values += [100 * value for value in told["metrics"].get(name, {}).get("folds", []) if value is not None]
    return [value for value in values if math.isfinite(value)]
