"""Decisions between two classes at thresholds that one set of slides chose and others keep."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dtcwsi.metrics import Labels, Metric, Values, interval

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

    Intervals are of patients drawn with replacement; a value is None where nothing is to be divided by.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, threshold in thresholds.items():
        decided = np.eye(2)[(probabilities[:, 1] >= threshold).astype(np.int64)]
        told[name] = {"threshold": threshold}
        for what, metric in _OF_DECISIONS.items():
            value, ends = metric(labels, decided), interval(metric, labels, decided, patients)
            told[name][what] = {"value": _known(value), "interval_95": [_known(end) for end in ends]}
    return told


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _share(text: str, *, of_decided: bool, positive: bool) -> Metric:
    """Count what is right among slides of a class, or among those that were decided to be of it."""

    def of_draws(labels: Labels, decided: Values, weights: Values) -> Values:
        decision = decided.argmax(axis=1)
        asked = (decision if of_decided else labels) == positive
        right, counted = weights[:, asked & (decision == labels)].sum(axis=1), weights[:, asked].sum(axis=1)
        shares: Values = np.full(len(weights), np.nan)
        np.divide(right, counted, out=shares, where=counted > 0)
        return shares

    return Metric(text, of_draws)


_OF_DECISIONS = {
    "sensitivity": _share("share of the second class that is found", of_decided=False, positive=True),
    "specificity": _share("share of the first class that is left", of_decided=False, positive=False),
    "ppv": _share("share of the second class among what is found", of_decided=True, positive=True),
    "npv": _share("share of the first class among what is left", of_decided=True, positive=False),
}
