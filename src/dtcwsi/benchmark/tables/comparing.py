"""Each row of a table against its reference: the same slides tested in the same folds, patients drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtcwsi.metrics import FEW_PATIENTS, METRICS, Difference, difference, holm, share_interval
from dtcwsi.store.tables import read_rows

__all__ = ["Compared", "compare_runs", "corrected"]

_DRAWS = 5_000
_FEW_DIFFERING = 6  # of fewer no test of their signs is sure at 5 %
_OF_RIGHT = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Compared:
    """A row minus its ``reference``, in points of 100: ``value``, its 95 % interval, ``p``, of how many ``patients``.

    ``p_holm`` is p corrected for all comparisons of the table.
    """

    reference: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    patients: int

    @property
    def few(self) -> bool:
        """Whether there are too few patients for an interval and a p."""
        return self.patients < FEW_PATIENTS


@dataclass(frozen=True)
class _OutOfFold:
    """A run's predictions by slide and fold: class numbers (tests,), probabilities (tests, classes)."""

    slides: tuple[str, ...]
    folds: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: tuple[str, ...]


def compare_runs(reference: str, ours: Sequence[Path], theirs: Sequence[Path], metric: str) -> Compared | None:
    """Compare the runs of a row with those of its reference, seed by seed, by their pooled out-of-fold predictions.

    Patients are drawn with replacement, the same ones for both and for all seeds, and so are the seeds. Of one seed it
    tells what other patients would change, not what training again would. Draws hardly differ where the rows predict
    nearly all patients alike: an accuracy's interval then goes to the exact limits of both shares that differ, and its
    p is not below what the signs of these patients could give.
    Returns: None where runs are missing or did not test the same slides in the same folds, or nothing can be scored.
    Sources: the paired bootstrap of Efron and Tibshirani 1993, "An Introduction to the Bootstrap", over patients;
    Clopper and Pearson 1934 for the limits.
    """
    mine, others = [_read(run) for run in ours], [_read(run) for run in theirs]
    if not mine or len(mine) != len(others) or not mine[0].slides:
        return None
    first = mine[0]
    alike = all(
        (a.slides, a.folds, a.classes) == (b.slides, b.folds, b.classes) for a, b in zip(mine, others, strict=True)
    )
    if not alike or any((one.slides, one.classes) != (first.slides, first.classes) for one in mine):
        return None
    one, other = (np.stack([each.probabilities for each in runs]) for runs in (mine, others))
    found = difference(METRICS[metric], first.labels, one, other, first.patients, draws=_DRAWS)
    if found is None:
        return None
    return _in_points(reference, _widened(found) if metric in _OF_RIGHT else found)


def _widened(found: Difference) -> Difference:
    """Do not trust draws of few patients that differ."""
    differing = found.better + found.worse
    p = min(1.0, max(found.p, 2.0 ** (1 - differing)))
    if differing >= _FEW_DIFFERING:
        return replace(found, p=p)
    better, worse = (share_interval(number, found.patients) for number in (found.better, found.worse))
    low, high = min(found.low, better[0] - worse[1]), max(found.high, better[1] - worse[0])
    return replace(found, low=low, high=high, p=p)


def corrected(compared: Mapping[str, Compared | None]) -> dict[str, Compared | None]:
    """Correct the p-values of a table's comparisons, by row, for their number."""
    told = {row: one for row, one in compared.items() if one is not None}
    of_all = dict(zip(told, holm([one.p for one in told.values()]), strict=True))
    return {row: one and replace(one, p_holm=of_all[row]) for row, one in compared.items()}


def _in_points(reference: str, found: Difference) -> Compared:
    value, low, high = (100 * number for number in (found.value, found.low, found.high))
    return Compared(reference, value, low, high, p=found.p, p_holm=found.p, patients=found.patients)


def _read(run: Path) -> _OutOfFold:
    rows = sorted(read_rows(run / "predictions.csv"), key=lambda row: (row["slide_id"], row["fold"]))
    patient_of = {row["slide_id"]: row["patient_id"] for row in read_rows(run / "folds.csv")}
    columns = [column for column in (rows[0] if rows else {}) if column.startswith("prob_")]
    classes = tuple(column.removeprefix("prob_") for column in columns)
    return _OutOfFold(
        slides=tuple(row["slide_id"] for row in rows),
        folds=tuple(row["fold"] for row in rows),
        classes=classes,
        labels=np.array([classes.index(row["label"]) for row in rows], np.int64),
        probabilities=np.array([[float(row[column]) for column in columns] for row in rows], np.float64),
        patients=tuple(patient_of[row["slide_id"]] for row in rows),
    )
