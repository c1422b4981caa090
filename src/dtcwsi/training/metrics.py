"""How good predictions are, and how sure that is."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRICS", "accuracy", "auc", "balanced_accuracy", "interval", "over_folds", "score"]

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Share of right predictions for two classes; the mean of the classes' own shares for more.

    ``labels`` (slides,) class numbers; ``probabilities`` (slides, classes).  Source: Section 3.2.
    """
    if probabilities.shape[1] > 2:
        return balanced_accuracy(labels, probabilities)
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Mean over the classes that occur of the share of their slides predicted right."""
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def auc(labels: Labels, probabilities: Probabilities) -> float:
    """Area under the ROC curve, one class against the rest, a mean over classes.

    Ties count half. A class that all or none of the slides have is left out; NaN if no class remains.
    """
    areas = [
        _area(labels == label, probabilities[:, label])
        for label in range(probabilities.shape[1])
        if 0 < np.count_nonzero(labels == label) < len(labels)
    ]
    return float(np.mean(areas)) if areas else float("nan")


METRICS: dict[str, Callable[[Labels, Probabilities], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auc": auc,
}


def score(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Every metric by name."""
    return {name: metric(labels, probabilities) for name, metric in METRICS.items()}


def over_folds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample, n - 1) of the folds that have a value; NaN where there are too few."""
    known = np.array([value for value in values if not np.isnan(value)])
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def interval(
    metric: Callable[[Labels, Probabilities], float],
    labels: Labels,
    probabilities: Probabilities,
    patients: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a metric by drawing patients, not slides, with replacement.

    Draws without every class of ``labels`` are passed over. Returns: the 2.5th and 97.5th percentile; NaN if no draw
    could be scored.
    """
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    slides_of = [np.flatnonzero(patient == number) for number in range(len(names))]
    generator, classes = np.random.default_rng(seed), len(np.unique(labels))
    values = []
    for _ in range(draws):
        drawn = np.concatenate([slides_of[number] for number in generator.integers(len(names), size=len(names))])
        if len(np.unique(labels[drawn])) == classes:
            values.append(metric(labels[drawn], probabilities[drawn]))
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _area(positive: NDArray[np.bool_], values: Probabilities) -> float:
    """Mann-Whitney's U of the positives over its largest value, ties at their mean rank."""
    _, place, repeats = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(repeats) - (repeats - 1) / 2)[place]
    count = int(np.count_nonzero(positive))
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(values) - count)))
