"""Decisions between two classes at thresholds that one set of slides chose and others keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

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

    Where every patient counts once an interval is exact; where some count several times patients are drawn with
    replacement, unless all slides that count are right or all wrong, which draws cannot doubt: then it is exact, of as
    many as there are patients. A value is None where nothing is to be divided by.
    Source: Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial".
    """
    told: dict[str, dict[str, Any]] = {}
    for name, threshold in thresholds.items():
        decided = np.eye(2)[(probabilities[:, 1] >= threshold).astype(np.int64)]
        told[name] = {"threshold": threshold}
        for what, share in _OF_DECISIONS.items():
            asked, right = share.counted(labels, decided)
            owners, hits, all_asked = len(set(np.asarray(patients)[asked])), int(right.sum()), int(asked.sum())
            if hits in (0, all_asked) or owners == all_asked:
                ends = _exact(min(hits, owners), owners)
            else:
                ends = interval(share.metric, labels, decided, patients)
            value = hits / all_asked if all_asked else np.nan
            told[name][what] = {"value": _known(value), "interval_95": [_known(end) for end in ends]}
    return told


def _exact(hits: int, of_all: int) -> tuple[float, float]:
    """95 % interval of a share; NaN of nothing."""
    if not of_all:
        return np.nan, np.nan
    low, high = binomtest(hits, of_all).proportion_ci(0.95, method="exact")
    return float(low), float(high)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


@dataclass(frozen=True)
class _Share:
    """What is right among slides of a class, or, if ``of_decided``, among those that were decided to be of it."""

    text: str
    of_decided: bool
    positive: bool

    def counted(self, labels: Labels, decided: Values) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Mark the slides that count, and those of them that are right."""
        decision = decided.argmax(axis=1)
        asked = (decision if self.of_decided else labels) == self.positive
        return asked, asked & (decision == labels)

    @property
    def metric(self) -> Metric:
        """The share as a metric of decisions in the place of probabilities."""

        def of_draws(labels: Labels, decided: Values, weights: Values) -> Values:
            asked, right = self.counted(labels, decided)
            counted = weights[:, asked].sum(axis=1)
            shares: Values = np.full(len(weights), np.nan)
            np.divide(weights[:, right].sum(axis=1), counted, out=shares, where=counted > 0)
            return shares

        return Metric(self.text, of_draws)


_OF_DECISIONS = {
    "sensitivity": _Share("share of the second class that is found", of_decided=False, positive=True),
    "specificity": _Share("share of the first class that is left", of_decided=False, positive=False),
    "ppv": _Share("share of the second class among what is found", of_decided=True, positive=True),
    "npv": _Share("share of the first class among what is left", of_decided=True, positive=False),
}
