"""What was taken for what, and two classes' decisions at chosen thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtcwsi.explain.report.runs import RunSummary
from dtcwsi.thresholds import chosen_thresholds, decisions

__all__ = ["Confusion", "confusions"]


@dataclass(frozen=True)
class Confusion:
    """One model's out-of-fold predictions by true class (rows) and predicted class (columns).

    ``shares`` are those of the rows, None in a row without slides. ``decisions`` are of two classes, by threshold, see
    `dtcwsi.thresholds.decisions`; empty for more.
    """

    name: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float | None, ...], ...]
    decisions: Mapping[str, Mapping[str, Any]]


def confusions(runs: Mapping[str, RunSummary]) -> list[Confusion]:
    """Count each run's predictions; the class predicted is the likeliest."""
    return [_confusion(name, run) for name, run in runs.items() if len(run.labels)]


def _confusion(name: str, run: RunSummary) -> Confusion:
    n_classes = len(run.classes)
    cell = run.labels * n_classes + run.probabilities.argmax(axis=1)
    counts = np.bincount(cell, minlength=n_classes**2).reshape(n_classes, n_classes).tolist()
    shares = tuple(tuple(count / sum(row) if sum(row) else None for count in row) for row in counts)
    told = {}
    if n_classes == 2:
        thresholds = chosen_thresholds(run.labels, run.probabilities)
        told = decisions(thresholds, run.labels, run.probabilities, run.patients)
    return Confusion(name, run.classes, tuple(map(tuple, counts)), shares, told)
