"""Curves against plainer computations."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from dtcwsi.explain.report.curves import calibration_of, precision_recall_of, roc_of
from dtcwsi.metrics import METRICS


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
    assert curve.area == pytest.approx(np.mean(areas))
    assert np.trapezoid(curve.up, curve.across) == pytest.approx(curve.area, abs=1e-9 if n_classes == 2 else 0.01)
    for rate in (curve.across, curve.up):
        assert rate[0] == 0
        assert rate[-1] == 1


@pytest.mark.parametrize("n_classes", [2, 4])
def test_steps_of_precision_enclose_the_average_precision(n_classes):
    labels, one = cohort(n_classes)
    curve = precision_recall_of(labels, one)
    chosen = range(1, 2) if n_classes == 2 else range(n_classes)
    areas = [average_precision_score(labels == label, one[:, label]) for label in chosen]
    assert curve.area == pytest.approx(np.mean(areas))
    assert np.trapezoid(curve.up, curve.across) == pytest.approx(curve.area, abs=1e-9 if n_classes == 2 else 0.02)
    assert (curve.across[0], curve.across[-1]) == (0, 1)


def test_classes_that_do_not_occur_are_passed_over():
    labels, one = cohort(2)
    three = np.concatenate([one, np.zeros((len(one), 1))], axis=1)
    assert roc_of(labels, three).area == pytest.approx(np.mean([roc_auc_score(labels == c, one[:, c]) for c in (0, 1)]))
    for curve_of in (roc_of, precision_recall_of):
        assert curve_of(np.zeros(5, int), one[:5]) is None


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_bins_are_those_of_the_calibration_error(n_classes):
    labels, one = cohort(n_classes)
    bins = calibration_of(labels, one)
    assert sum(each.count for each in bins) == len(labels)
    off = sum(each.count * abs(each.right - each.probability) for each in bins) / len(labels)
    assert off == pytest.approx(METRICS["calibration_error"](labels, one))
    assert all(each.low - 1e-9 <= each.right <= each.high + 1e-9 for each in bins)


def test_an_interval_of_a_bin_is_wilsons():
    (one,) = calibration_of(np.array([0] * 8 + [1] * 2), np.tile([0.9, 0.1], (10, 1)))
    assert (one.low, one.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert calibration_of(np.zeros(0, int), np.zeros((0, 2))) == []
