"""Curves of out-of-fold predictions: ROC, precision against recall, and how right a probability is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from dtcwsi.metrics import CALIBRATION_BINS, METRICS, sureness

__all__ = ["CalibrationBin", "Curve", "calibration_of", "precision_recall_of", "roc_of"]

_GRID = np.linspace(0, 1, 201)
_SIDES_95 = 1.959964


@dataclass(frozen=True)
class Curve:
    """A pooled curve in the unit square: ``across`` and ``up`` (points,), and the ``area`` that metrics give it."""

    across: NDArray[np.float64]
    up: NDArray[np.float64]
    area: float


@dataclass(frozen=True)
class CalibrationBin:
    """Slides whose predicted class has a probability in one of 15 equal bins.

    ``count`` slides of mean ``probability``, of which the share ``right`` was right; ``low`` to ``high`` is its 95 %
    interval, each slide by itself.  Source: Wilson 1927, "Probable Inference", for the interval.
    """

    count: int
    probability: float
    right: float
    low: float
    high: float


def roc_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Curve | None:
    """Draw the ROC curve of the second of two classes; of more, the mean of the classes' curves against the rest.

    ``labels`` (slides,) class numbers; ``probabilities`` (slides, classes). A class that all or none of the slides
    have is left out. Returns: None if no class remains.
    """
    scored = _scored_classes(labels, probabilities.shape[1])
    if not scored:
        return None
    area = METRICS["auc"](labels, probabilities)
    if probabilities.shape[1] == 2:
        false_rate, true_rate, _ = roc_curve(labels == 1, sureness(probabilities, 1), drop_intermediate=True)
        return Curve(np.asarray(false_rate), np.asarray(true_rate), area)
    curves = []
    for label in scored:
        false_rate, true_rate, _ = roc_curve(labels == label, probabilities[:, label])
        curves.append(np.interp(_GRID, false_rate, true_rate))
    return Curve(np.append(0.0, _GRID), np.append(0.0, np.mean(curves, axis=0)), area)


def precision_recall_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Curve | None:
    """Draw precision (up) against recall of the second of two classes; of more, the mean of the classes' curves.

    Arguments and classes as of `roc_of`; the area is the average precision. A step of recall keeps the precision that
    reaches it: points between two of them cannot be had.
    """
    scored = _scored_classes(labels, probabilities.shape[1])
    if not scored:
        return None
    area = METRICS["average_precision"](labels, probabilities)
    if probabilities.shape[1] == 2:
        recall, precision = _precision(labels == 1, sureness(probabilities, 1))
        return Curve(np.repeat(recall, 2)[1:-1], np.repeat(precision[1:], 2), area)
    at_grid = []
    for label in scored:
        recall, precision = _precision(labels == label, probabilities[:, label])
        at_grid.append(precision[np.searchsorted(recall, _GRID).clip(1)])
    return Curve(_GRID, np.mean(at_grid, axis=0), area)


def calibration_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[CalibrationBin]:
    """Compare the probability of the class predicted with how often it was right, in the bins of the calibration error.

    Arguments as of `roc_of`. Returns: the bins that hold a slide, by probability.
    """
    if not len(labels):
        return []
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.minimum((sure * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    return [_bin(sure[place == number], right[place == number]) for number in np.unique(place)]


def _bin(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> CalibrationBin:
    count, share, square = len(sure), float(right.mean()), _SIDES_95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    reach = _SIDES_95 / (1 + square / count) * np.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return CalibrationBin(count, float(sure.mean()), share, float(middle - reach), float(middle + reach))


def _precision(
    positive: NDArray[np.bool_], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give recall, from 0 up, and the precision that reaches it."""
    precision, recall, _ = precision_recall_curve(positive, values)
    return recall[::-1], precision[::-1]


def _scored_classes(labels: NDArray[np.int64], n_classes: int) -> list[int]:
    counts = np.bincount(labels, minlength=n_classes)
    return [label for label in range(n_classes) if 0 < counts[label] < len(labels)]
