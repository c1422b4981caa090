import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from dtcwsi.training.metrics import accuracy, auc, balanced_accuracy, interval, over_folds, score


def predictions(classes, count, seed, decimals=2):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=count)])
    probabilities = np.round(rng.dirichlet(np.ones(classes), size=len(labels)), decimals)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 40), st.integers(0, 999))
def test_auc_and_balanced_accuracy_equal_scikit_learn(classes, count, seed):
    labels, probabilities = predictions(classes, count, seed)
    of_two = classes == 2
    expected = roc_auc_score(labels, probabilities[:, 1] if of_two else probabilities, multi_class="ovr")
    assert auc(labels, probabilities) == pytest.approx(expected)
    expected = balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    assert balanced_accuracy(labels, probabilities) == pytest.approx(expected)


def test_accuracy_is_plain_for_two_classes_and_per_class_for_more():
    labels = np.array([0, 0, 0, 1])
    assert accuracy(labels, np.array([[0.9, 0.1]] * 4)) == 0.75
    assert accuracy(labels, np.array([[0.9, 0.1, 0.0]] * 4)) == 0.5


def test_auc_counts_ties_half_and_leaves_absent_classes_out():
    assert auc(np.array([0, 1]), np.full((2, 2), 0.5)) == 0.5
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.6, 0.2, 0.2], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    assert auc(labels, probabilities) == 1.0
    assert math.isnan(auc(np.zeros(3, int), probabilities))


def test_score_names_every_metric():
    assert score(*predictions(2, 10, 0)).keys() == {"accuracy", "balanced_accuracy", "auc"}


def test_mean_and_deviation_over_folds_skip_what_is_missing():
    assert over_folds([0.5, 0.7, float("nan")]) == pytest.approx((0.6, math.sqrt(0.02)))
    mean, std = over_folds([0.5])
    assert mean == 0.5
    assert math.isnan(std)
    assert math.isnan(over_folds([])[0])


def test_the_interval_holds_the_value_repeats_and_narrows_with_patients():
    widths = []
    for count in (30, 600):
        labels, probabilities = predictions(2, count, 1)
        patients = [str(i) for i in range(len(labels))]
        low, high = interval(auc, labels, probabilities, patients, draws=200, seed=3)
        assert low < auc(labels, probabilities) < high
        assert (low, high) == interval(auc, labels, probabilities, patients, draws=200, seed=3)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_slides_of_one_patient_are_drawn_together():
    labels = np.array([0, 1] * 40)
    probabilities = np.where((np.arange(80) % 8 < 2)[:, None], [[0.5, 0.5]], np.eye(2)[labels])
    apart = interval(auc, labels, probabilities, [str(i) for i in range(80)], draws=300)
    together = interval(auc, labels, probabilities, [str(i // 8) for i in range(80)], draws=300)
    assert apart[1] - apart[0] > 0
    assert together == (apart[0], apart[1]) or together[1] - together[0] < apart[1] - apart[0]


def test_no_interval_where_nothing_can_be_scored():
    low, high = interval(auc, np.array([0, 0]), np.full((2, 2), 0.5), ["a", "b"], draws=5)
    assert math.isnan(low)
    assert math.isnan(high)
