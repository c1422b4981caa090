"""How good predictions are, and how sure that is: metrics that take weights, so that a bootstrap is one call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

__all__ = [
    "CALIBRATION_BINS",
    "FEW_PATIENTS",
    "METRICS",
    "Difference",
    "Metric",
    "difference",
    "holm",
    "interval",
    "metrics_for",
    "over_folds",
    "patient_draws",
    "score",
    "share_interval",
    "sureness",
]

Labels = NDArray[np.int64]
Values = NDArray[np.float64]

CALIBRATION_BINS = 15
FEW_PATIENTS = 20
"""Below so many the draws are few different ones, and intervals too narrow."""
_AT_ONCE = 100


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are; ``text`` says which, ``of_grades`` that classes must be ordered.

    ``of_draws`` takes labels (slides,) as class numbers, probabilities (slides, classes) and weights (draws, slides),
    how often each slide counts, and gives a value a draw, NaN where there is none.
    """

    text: str
    of_draws: Callable[[Labels, Values, Values], Values]
    of_grades: bool = False

    def __call__(self, labels: Labels, probabilities: Values) -> float:
        """Score slides that count once each; NaN if that cannot be done."""
        return float(self.of_draws(labels, probabilities, np.ones((1, len(labels))))[0])


@dataclass(frozen=True)
class Difference:
    """A metric of one model minus that of another on the same slides, with its 95 % interval.

    ``p`` is two-sided: twice the share of draws in which the difference is 0 or of the rarer sign, at most 1, at least
    2^(1 - ``patients``), the least that exchanging the models patient by patient could give. ``better`` are the
    patients of whom the one predicts more right than the other, ``worse`` those of whom it predicts fewer.
    """

    value: float
    low: float
    high: float
    p: float
    patients: int
    better: int
    worse: int


def metrics_for(class_names: Sequence[str]) -> dict[str, Metric]:
    """Choose the metrics that mean something for classes of these names.

    Three classes or more, all named by whole numbers, are grades: their order counts. Others have no order, and what
    forgives a neighbouring class would depend on how they are spelled.
    """
    grades = len(class_names) > 2 and all(name.lstrip("-").isdecimal() for name in class_names)
    return {name: metric for name, metric in METRICS.items() if grades or not metric.of_grades}


def score(labels: Labels, probabilities: Values, class_names: Sequence[str] = ()) -> dict[str, float]:
    """Score by every metric that classes of these names have, by its name."""
    return {name: metric(labels, probabilities) for name, metric in metrics_for(class_names).items()}


def over_folds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample, n - 1) of the folds that have a value; NaN where there are too few."""
    known = np.array([value for value in values if not np.isnan(value)])
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def interval(
    metric: Metric, labels: Labels, probabilities: Values, patients: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a metric by drawing patients, not slides, with replacement.

    Draws without every class of ``labels`` are passed over. Returns: the 2.5th and 97.5th percentile; NaN if no draw
    could be scored.
    """
    found = [metric.of_draws(labels, probabilities, weights) for weights in _full_draws(labels, patients, draws, seed)]
    return _middle(np.concatenate(found))


def difference(
    metric: Metric,
    labels: Labels,
    one: Values,
    other: Values,
    patients: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Difference | None:
    """Compare two models on the same slides, drawing patients with replacement: ``one`` minus ``other``.

    Both are scored on the same draws, so that what makes a cohort hard cancels out. ``one`` and ``other`` are
    probabilities (slides, classes), or (trainings, slides, classes) of as many trainings, whose mean difference it is:
    several are drawn with replacement too, the same of both.
    Returns: None if nothing can be scored.
    Source: Davison and Hinkley 1997, "Bootstrap Methods and their Application", for p with 1 added to both counts.
    """
    pairs = list(zip(*(each if each.ndim == 3 else each[None] for each in (one, other)), strict=True))
    chance = np.random.default_rng([seed, len(pairs)])
    value = float(_differences(metric, labels, pairs, np.ones((1, len(labels)))).mean())
    found = []
    for weights in _full_draws(labels, patients, draws, seed):
        each = _differences(metric, labels, pairs, weights)
        times = chance.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), size=len(weights))
        found.append((each * times.T).sum(axis=0) / len(pairs))
    drawn = np.concatenate(found) if found else np.empty(0)
    drawn = drawn[~np.isnan(drawn)]
    low, high = _middle(drawn)
    if np.isnan(low):
        return None
    rarer, drawn_from = int(min((drawn <= 0).sum(), (drawn >= 0).sum())), len(set(patients))
    p = min(1.0, max(2 * (1 + rarer) / (1 + len(drawn)), 2.0 ** (1 - drawn_from)))
    return Difference(value, low, high, p, drawn_from, *_differing(labels, pairs, patients))


def share_interval(hits: float, cases: float) -> tuple[float, float]:
    """95 % interval of a share by its hits among so many cases.

    Source: Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial".
    """
    low = beta.ppf(0.025, hits, cases - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(0.975, hits + 1, cases - hits) if hits < cases else 1.0
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that the chance of any false finding among them keeps its bound.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    corrected, most = [0.0] * len(p_values), 0.0
    for before, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        most = max(most, min(1.0, (len(p_values) - before) * p_values[number]))
        corrected[number] = most
    return corrected


def _differences(metric: Metric, labels: Labels, pairs: Sequence[tuple[Values, Values]], weights: Values) -> Values:
    """Compare every pair of trainings: (pairs, draws)."""
    each = [metric.of_draws(labels, mine, weights) - metric.of_draws(labels, theirs, weights) for mine, theirs in pairs]
    return np.stack(each)


def _differing(labels: Labels, pairs: Sequence[tuple[Values, Values]], patients: Sequence[str]) -> tuple[int, int]:
    """Count patients of whom all trainings together predict more slides right in the first of each pair, and fewer."""
    right = [[each.argmax(axis=1) == labels for each in pair] for pair in pairs]
    gained = sum(mine.astype(np.int64) - theirs for mine, theirs in right)
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    of_patient = np.zeros(len(names), np.int64)
    np.add.at(of_patient, patient, gained)
    return int((of_patient > 0).sum()), int((of_patient < 0).sum())


def patient_draws(patients: Sequence[str], draws: int, seed: int) -> Iterator[Values]:
    """Draw as many patients as there are, with replacement: how often each slide counts, (100 or fewer, slides)."""
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    generator, shares = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    for first in range(0, draws, _AT_ONCE):
        drawn = generator.multinomial(len(names), shares, size=min(_AT_ONCE, draws - first))
        yield drawn[:, patient].astype(np.float64)


def _full_draws(labels: Labels, patients: Sequence[str], draws: int, seed: int) -> Iterator[Values]:
    """Pass over draws that lack one of the classes."""
    of_class = np.unique(labels)[None, :] == labels[:, None]
    for weights in patient_draws(patients, draws, seed):
        yield weights[(weights @ of_class > 0).all(axis=1)]


def _middle(values: Values) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _accuracy(labels: Labels, probabilities: Values, weights: Values) -> Values:
    if probabilities.shape[1] > 2:
        return _balanced_accuracy(labels, probabilities, weights)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return _ratio(weights @ right, weights.sum(axis=1))


def _balanced_accuracy(labels: Labels, probabilities: Values, weights: Values) -> Values:
    counted = _confusion(labels, probabilities, weights)
    return _mean(_ratio(np.diagonal(counted, axis1=1, axis2=2), counted.sum(axis=2)))


def _f1(labels: Labels, probabilities: Values, weights: Values) -> Values:
    counted = _confusion(labels, probabilities, weights)
    right = np.diagonal(counted, axis1=1, axis2=2)
    return _mean(_ratio(2 * right, counted.sum(axis=1) + counted.sum(axis=2)))


def _kappa(labels: Labels, probabilities: Values, weights: Values) -> Values:
    return _agreement(labels, probabilities, weights, 1 - np.eye(probabilities.shape[1]))


def _quadratic_kappa(labels: Labels, probabilities: Values, weights: Values) -> Values:
    grades = np.arange(probabilities.shape[1], dtype=np.float64)
    return _agreement(labels, probabilities, weights, (grades[:, None] - grades[None, :]) ** 2)


def _agreement(labels: Labels, probabilities: Values, weights: Values, cost: Values) -> Values:
    """1 minus the ratio of the cost of what was confused to that of chance; ``cost`` (classes, classes)."""
    counted = _confusion(labels, probabilities, weights)
    by_chance = counted.sum(axis=2)[:, :, None] * counted.sum(axis=1)[:, None, :]
    total = counted.sum(axis=(1, 2))
    return 1 - _ratio((cost * counted).sum(axis=(1, 2)) * total, (cost * by_chance).sum(axis=(1, 2)))


def _auc(labels: Labels, probabilities: Values, weights: Values) -> Values:
    areas = []
    for label in range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1]):
        positive, negative = _by_value(labels == label, sureness(probabilities, label), weights)
        below = negative.cumsum(axis=1) - negative / 2  # ties count half
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        areas.append(_ratio((positive * below).sum(axis=1), pairs))
    return _mean(np.stack(areas, axis=1))


def sureness(probabilities: Values, label: int) -> Values:
    """Rank slides by a class; of two by their ratio, as one of them rounds to 1 where the other still differs."""
    if probabilities.shape[1] != 2:
        return probabilities[:, label]
    logs = np.log(np.maximum(probabilities, 1e-300))
    ranked: Values = logs[:, label] - logs[:, 1 - label]
    return ranked


def _average_precision(labels: Labels, probabilities: Values, weights: Values) -> Values:
    means = []
    classes = range(probabilities.shape[1])
    for label in classes[1:] if len(classes) == 2 else classes:
        positive, negative = _by_value(labels == label, sureness(probabilities, label), weights)
        positive, negative = positive[:, ::-1], negative[:, ::-1]
        found = positive.cumsum(axis=1)
        precision = _ratio(found, found + negative.cumsum(axis=1))
        means.append(_ratio((positive * np.nan_to_num(precision)).sum(axis=1), positive.sum(axis=1)))
    return _mean(np.stack(means, axis=1))


def _brier(labels: Labels, probabilities: Values, weights: Values) -> Values:
    squares = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    halved = squares / 2 if probabilities.shape[1] == 2 else squares
    return _ratio(weights @ halved, weights.sum(axis=1))


def _calibration_error(labels: Labels, probabilities: Values, weights: Values) -> Values:
    sure = probabilities.max(axis=1)
    off = (probabilities.argmax(axis=1) == labels) - sure
    bins = np.minimum((sure * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    by_bin = off[:, None] * (bins[:, None] == np.arange(CALIBRATION_BINS))
    return _ratio(np.abs(weights @ by_bin).sum(axis=1), weights.sum(axis=1))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("share predicted right; for three classes or more the mean of the classes' shares", _accuracy),
    "balanced_accuracy": Metric("mean over the classes that occur of the share predicted right", _balanced_accuracy),
    "auc": Metric("area under the ROC curve, a mean over classes, each against the rest", _auc),
    "average_precision": Metric("of the second of two classes, else a mean over classes", _average_precision),
    "f1": Metric("mean over classes of the harmonic mean of precision and recall", _f1),
    "kappa": Metric("Cohen's kappa: agreement beyond chance, any confusion counting alike", _kappa),
    "quadratic_kappa": Metric("Cohen's kappa with quadratic weights, of grades only", _quadratic_kappa, of_grades=True),
    "brier": Metric("mean squared error of the probabilities, of one class where there are two; 0 is best", _brier),
    "calibration_error": Metric("of the probability of the class predicted, 15 bins; 0 is best", _calibration_error),
}
"""Classes that a set of slides lacks are left out of means over classes.

Sources: Section 3.2 of the paper (accuracy, auc); Cohen 1960 and 1968 (kappa, quadratic_kappa); Guo et al. 2017
(calibration_error).
"""


def _confusion(labels: Labels, probabilities: Values, weights: Values) -> Values:
    """Count slides by class and predicted class: (draws, classes, classes)."""
    classes = probabilities.shape[1]
    cell = labels * classes + probabilities.argmax(axis=1)
    counted: Values = weights @ (cell[:, None] == np.arange(classes * classes))
    return counted.reshape(len(weights), classes, classes)


def _by_value(positive: NDArray[np.bool_], values: Values, weights: Values) -> tuple[Values, Values]:
    """Add up the weights of positive and negative slides at each distinct value, ascending: (draws, values)."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    mine = weights[:, order] * positive[order]
    return np.add.reduceat(mine, starts, axis=1), np.add.reduceat(weights[:, order] - mine, starts, axis=1)


def _ratio(part: Values, whole: Values) -> Values:
    """Divide; NaN where the whole is 0."""
    shares: Values = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _mean(values: Values) -> Values:
    """Average over the classes that have a value, NaN where none has."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
