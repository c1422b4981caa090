"""Curves against plainer computations."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dtcwsi.explain.report.curves import roc_of


def cohort(n_classes: int, n_slides: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_slides)
    probabilities = rng.dirichlet(np.ones(n_classes), n_slides)
    probabilities[np.arange(n_slides), labels] += 0.6
    return labels, np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 2)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_curves_have_the_area_that_they_claim(n_classes):
    labels, one = cohort(n_classes)
    curve = roc_of(labels, one)
    areas = [roc_auc_score(labels == label, one[:, label]) for label in range(n_classes)]
    assert curve.auc == pytest.approx(np.mean(areas))
    drawn = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert drawn == pytest.approx(curve.auc, abs=1e-9 if n_classes == 2 else 0.01)
    for rate in (curve.true_positive_rate, curve.false_positive_rate):
        assert rate[0] == 0
        assert rate[-1] == 1


def test_classes_that_do_not_occur_are_passed_over():
    labels, one = cohort(2)
    three = np.concatenate([one, np.zeros((len(one), 1))], axis=1)
    assert roc_of(labels, three).auc == pytest.approx(np.mean([roc_auc_score(labels == c, one[:, c]) for c in (0, 1)]))
    assert roc_of(np.zeros(5, int), one[:5]) is None
