"""Decisions between two classes at thresholds that one set of slides chose and others keep."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dtcwsi.metrics import Labels, Values, share_interval

__all__ = ["THRESHOLDS", "chosen_thresholds", "decisions"]

THRESHOLDS = ("half", "youden", "sensitivity_95")

_SENSITIVITY = 0.95


def chosen_thresholds(labels: Labels, probabilities: Values) -> dict[str, float]:
    """Choose thresholds of the second class's probability, which is predicted from them on.

    ``labels`` (slides,), ``probabilities`` (slides, 2), of slides that no model of them was trained on.
    Returns: ``half``, 0.5; ``youden``, of the largest sum of sensitivity and specificity, of several the nearest to
    0.5; ``sensitivity_95``, the largest that finds 95 % of the second class. The latter two lie midway between slides;
    without slides of both classes there is ``half`` alone.
    Source: Youden 1950, "Index for Rating Diagnostic Tests".
    """
    found, positive = {"half": 0.5}, labels == 1
    if positive.all() or not positive.any():
        return found
    values = probabilities[:, 1]
    cuts = np.unique(values)
    between = np.concatenate([cuts[:1], (cuts[1:] + cuts[:-1]) / 2])
    above = values[None, :] >= between[:, None]
    sensitivity = above[:, positive].mean(axis=1)
    worth = sensitivity - above[:, ~positive].mean(axis=1)
    best = between[worth >= worth.max() - 1e-12]
    found["youden"] = float(best[np.abs(best - 0.5).argmin()])
    found["sensitivity_95"] = float(between[sensitivity >= _SENSITIVITY].max())
    return found


def decisions(
    thresholds: dict[str, float], labels: Labels, probabilities: Values, patients: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Score decisions at each threshold: sensitivity, specificity and predictive values, with 95 % intervals.

    Intervals are those of Clopper and Pearson with Kish's effective number of cases, which is that of patients where
    all have as many slides, and less where some have more: wider than need be where a patient's slides are not alike. A
    value is None where nothing is to be divided by.
    Source: Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial"; Kish 1965, "Survey Sampling"; for cases that are not slides Korn and Graubard 1998, "Confidence Intervals
    for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data".
    """
    told: dict[str, dict[str, Any]] = {}
    for name, threshold in thresholds.items():
        decided = (probabilities[:, 1] >= threshold).astype(np.int64)
        told[name] = {"threshold": threshold}
        for what, (of_decided, positive) in _OF_DECISIONS.items():
            asked = (decided if of_decided else labels) == positive
            right, slides_of = (decided == labels)[asked], np.unique(np.asarray(patients)[asked], return_counts=True)[1]
            value = float(right.mean()) if len(slides_of) else None
            cases = slides_of.sum() ** 2 / (slides_of**2).sum() if len(slides_of) else 0.0
            told[name][what] = {"value": value, "patients": len(slides_of), "interval_95": _interval(value, cases)}
    return told


def _interval(share: float | None, cases: float) -> list[float | None]:
    """95 % interval of a share of so many cases; None of nothing."""
    return [None, None] if share is None else [*share_interval(share * cases, cases)]


_OF_DECISIONS = {
    "sensitivity": (False, True),
    "specificity": (False, False),
    "ppv": (True, True),
    "npv": (True, False),
}
"""Shares of what is right: whether among what was decided to be of a class, and whether that is the second class."""
