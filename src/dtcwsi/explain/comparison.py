"""Curves and paired differences of out-of-fold predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

__all__ = ["Difference", "RocCurve", "auc_difference", "roc_of"]

_GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class RocCurve:
    """A pooled ROC curve: false and true positive rates (points,), and the area under it."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    auc: float


@dataclass(frozen=True)
class Difference:
    """AUC of one model minus that of another on the same slides, with its 95 % interval."""

    value: float
    low: float
    high: float


def roc_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> RocCurve | None:
    """Draw the ROC curve of the second of two classes; of more, the mean of the classes' curves against the rest.

    ``labels`` (slides,) class numbers; ``probabilities`` (slides, classes). A class that all or none of the slides
    have is left out. Returns: None if no class remains.
    """
    scored = _scored_classes(labels, probabilities.shape[1])
    if not scored:
        return None
    area = float(np.mean([_pairs(labels, probabilities, label)[2].mean() for label in scored]))
    if probabilities.shape[1] == 2:
        false_rate, true_rate, _ = roc_curve(labels == 1, probabilities[:, 1], drop_intermediate=True)
        return RocCurve(np.asarray(false_rate), np.asarray(true_rate), area)
    curves = []
    for label in scored:
        false_rate, true_rate, _ = roc_curve(labels == label, probabilities[:, label])
        curves.append(np.interp(_GRID, false_rate, true_rate))
    true_rate = np.mean(curves, axis=0)
    return RocCurve(np.append(0.0, _GRID), np.append(0.0, true_rate), area)


def auc_difference(
    labels: NDArray[np.int64],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    patients: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Difference | None:
    """Compare two models' pooled macro AUC on the same slides, drawing patients with replacement.

    Both models are scored on the same draws, so that what makes a cohort hard cancels out. ``one`` and ``other`` are
    probabilities (slides, classes). Returns: ``one`` minus ``other``; None if no class can be scored.
    """
    scored = _scored_classes(labels, one.shape[1])
    if not scored:
        return None
    weights = _patient_draws(patients, draws, seed)
    differences = np.zeros(len(weights))
    for label in scored:
        for sign, probabilities in ((1, one), (-1, other)):
            positive, negative, wins = _pairs(labels, probabilities, label)
            differences += sign * _areas(weights[:, positive], weights[:, negative], wins) / len(scored)
    known = differences[1:][np.isfinite(differences[1:])]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return Difference(float(differences[0]), float(low), float(high))


def _scored_classes(labels: NDArray[np.int64], n_classes: int) -> list[int]:
    counts = np.bincount(labels, minlength=n_classes)
    return [label for label in range(n_classes) if 0 < counts[label] < len(labels)]


def _patient_draws(patients: Sequence[str], draws: int, seed: int) -> NDArray[np.float64]:
    """How often each slide is in each draw, (1 + draws, slides); the first row is the cohort as it is."""
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(names))), drawn])[:, patient]


def _pairs(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], label: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Slides of a class, the others, and who wins: 1, or 0.5 for a tie, where the one of the class has more."""
    positive = labels == label
    mine, others = probabilities[positive, label][:, None], probabilities[~positive, label][None]
    return positive, ~positive, (mine > others) + 0.5 * (mine == others)


def _areas(
    positive: NDArray[np.float64], negative: NDArray[np.float64], wins: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the curve of each draw; NaN where a draw lacks one side."""
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = ((positive @ wins) * negative).sum(axis=1)
    return np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
