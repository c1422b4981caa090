"""ROC curves of out-of-fold predictions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from dtcwsi.metrics import METRICS

__all__ = ["RocCurve", "roc_of"]

_GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class RocCurve:
    """A pooled ROC curve: false and true positive rates (points,), and the area under it."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    auc: float


def roc_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> RocCurve | None:
    """Draw the ROC curve of the second of two classes; of more, the mean of the classes' curves against the rest.

    ``labels`` (slides,) class numbers; ``probabilities`` (slides, classes). A class that all or none of the slides
    have is left out. Returns: None if no class remains.
    """
    scored = _scored_classes(labels, probabilities.shape[1])
    if not scored:
        return None
    area = METRICS["auc"](labels, probabilities)
    if probabilities.shape[1] == 2:
        false_rate, true_rate, _ = roc_curve(labels == 1, probabilities[:, 1], drop_intermediate=True)
        return RocCurve(np.asarray(false_rate), np.asarray(true_rate), area)
    curves = []
    for label in scored:
        false_rate, true_rate, _ = roc_curve(labels == label, probabilities[:, label])
        curves.append(np.interp(_GRID, false_rate, true_rate))
    true_rate = np.mean(curves, axis=0)
    return RocCurve(np.append(0.0, _GRID), np.append(0.0, true_rate), area)


def _scored_classes(labels: NDArray[np.int64], n_classes: int) -> list[int]:
    counts = np.bincount(labels, minlength=n_classes)
    return [label for label in range(n_classes) if 0 < counts[label] < len(labels)]
