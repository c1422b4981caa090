"""Curves and paired differences against plainer computations."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dtcwsi.explain.comparison import auc_difference, roc_of


def cohort(n_classes: int, n_slides: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_slides)
    one, other = (rng.dirichlet(np.ones(n_classes), n_slides) for _ in range(2))
    one[np.arange(n_slides), labels] += 0.6
    one, other = (np.round(values / values.sum(axis=1, keepdims=True), 2) for values in (one, other))
    return labels, one, other, [f"P{number // 2}" for number in range(n_slides)]


@pytest.mark.parametrize("n_classes", [2, 4])
def test_curves_have_the_area_that_they_claim(n_classes):
    labels, one, _, _ = cohort(n_classes)
    curve = roc_of(labels, one)
    areas = [roc_auc_score(labels == label, one[:, label]) for label in range(n_classes)]
    assert curve.auc == pytest.approx(np.mean(areas))
    drawn = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert drawn == pytest.approx(curve.auc, abs=1e-9 if n_classes == 2 else 0.01)
    for rate in (curve.true_positive_rate, curve.false_positive_rate):
        assert rate[0] == 0
        assert rate[-1] == 1


def test_classes_that_do_not_occur_are_passed_over():
    labels, one, _, _ = cohort(2)
    three = np.concatenate([one, np.zeros((len(one), 1))], axis=1)
    assert roc_of(labels, three).auc == pytest.approx(np.mean([roc_auc_score(labels == c, one[:, c]) for c in (0, 1)]))
    assert roc_of(np.zeros(5, int), one[:5]) is None
    assert auc_difference(np.zeros(5, int), one[:5], one[:5], list("abcde")) is None


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_difference_is_the_paired_bootstrap_over_patients(n_classes):
    labels, one, other, patients = cohort(n_classes)
    found = auc_difference(labels, one, other, patients, draws=2000, seed=1)

    def area(rows: np.ndarray, values: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(labels[rows] == c, values[rows, c]) for c in range(n_classes)]))

    rows = np.arange(len(labels))
    assert found.value == pytest.approx(area(rows, one) - area(rows, other))
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(100):
        rows = np.concatenate([(2 * number, 2 * number + 1) for number in rng.integers(30, size=30)])
        draws.append(area(rows, one) - area(rows, other))
    np.testing.assert_allclose([found.low, found.high], np.percentile(draws, [2.5, 97.5]), atol=0.08)
    assert found.low < found.value < found.high


def test_a_model_does_not_differ_from_itself():
    labels, one, _, patients = cohort(2)
    same = auc_difference(labels, one, one, patients)
    assert (same.value, same.low, same.high) == (0, 0, 0)
