import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    roc_auc_score,
)

from dtcwsi.metrics import METRICS, difference, holm, interval, metrics_for, over_folds, patient_draws, score

AUC, ACCURACY = METRICS["auc"], METRICS["accuracy"]


def predictions(classes, count, seed, decimals=2):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=count)])
    probabilities = np.round(rng.dirichlet(np.ones(classes), size=len(labels)), decimals)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def by_scikit_learn(labels, probabilities, weights):
    """Every metric that scikit-learn has too, slides weighted."""
    classes, predicted, how = probabilities.shape[1], probabilities.argmax(axis=1), {"sample_weight": weights}
    of_two = classes == 2
    columns = [1] if of_two else range(classes)
    areas = [roc_auc_score(labels == c, probabilities[:, c], **how) for c in range(classes)]
    means = [average_precision_score(labels == c, probabilities[:, c], **how) for c in columns]
    briers = [brier_score_loss(labels == c, probabilities[:, c], **how) for c in columns]
    return {
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, **how),
        "auc": np.mean(areas),
        "average_precision": np.mean(means),
        "f1": f1_score(labels, predicted, average="macro", **how),
        "kappa": cohen_kappa_score(labels, predicted, **how),
        "quadratic_kappa": cohen_kappa_score(labels, predicted, weights="quadratic", **how),
        "brier": sum(briers),
    }


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 40), st.integers(0, 999))
def test_metrics_equal_scikit_learn_slides_weighted_or_not(classes, count, seed):
    labels, probabilities = predictions(classes, count, seed)
    weights = np.stack([np.ones(len(labels)), 1.0 + np.random.default_rng(seed).integers(3, size=len(labels))])
    wanted = [by_scikit_learn(labels, probabilities, row) for row in weights]
    for name in wanted[0]:
        found = METRICS[name].of_draws(labels, probabilities, weights)
        np.testing.assert_allclose(found, [row[name] for row in wanted], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", list(METRICS))
def test_a_slide_drawn_twice_counts_as_two(name, classes):
    labels, probabilities = predictions(classes, 30, 0)
    weights = np.random.default_rng(1).integers(1, 3, size=len(labels))
    found = METRICS[name].of_draws(labels, probabilities, weights[None].astype(float))
    drawn = np.repeat(np.arange(len(labels)), weights)
    assert found == pytest.approx(METRICS[name](labels[drawn], probabilities[drawn]))


def test_accuracy_is_plain_for_two_classes_and_per_class_for_more():
    labels = np.array([0, 0, 0, 1])
    assert ACCURACY(labels, np.array([[0.9, 0.1]] * 4)) == 0.75
    assert ACCURACY(labels, np.array([[0.9, 0.1, 0.0]] * 4)) == 0.5


def test_auc_counts_ties_half_and_leaves_absent_classes_out():
    assert AUC(np.array([0, 1]), np.full((2, 2), 0.5)) == 0.5
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.6, 0.2, 0.2], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    assert AUC(labels, probabilities) == 1.0
    assert math.isnan(AUC(np.zeros(3, int), probabilities))


def test_slides_whose_probability_rounds_to_one_are_still_ranked():
    logits = np.array([[0.0, -50.0], [0.0, -40.0], [0.0, 3.0], [0.0, 40.0], [0.0, 50.0]])
    probabilities = np.exp(logits - np.logaddexp(logits[:, :1], logits[:, 1:]))
    assert probabilities[0, 0] == probabilities[1, 0] == probabilities[4, 1] == 1
    for name in ("auc", "average_precision"):
        assert METRICS[name](np.array([0, 1, 1, 1, 1]), probabilities) == 1
        assert METRICS[name](np.array([0, 0, 0, 0, 1]), probabilities) == 1


def test_quadratic_kappa_alone_forgives_neighbouring_grades_and_both_are_unknown_for_one():
    labels = np.array([0, 0, 1, 1, 2, 2])
    near, far = np.eye(3)[[0, 0, 1, 1, 2, 1]], np.eye(3)[[0, 0, 1, 1, 2, 0]]
    assert 1 > METRICS["quadratic_kappa"](labels, near) > METRICS["quadratic_kappa"](labels, far)
    assert METRICS["kappa"](labels, near) == METRICS["kappa"](labels, far) == pytest.approx(0.75)
    for name in ("kappa", "quadratic_kappa"):
        assert math.isnan(METRICS[name](np.zeros(3, int), np.eye(3)[[0, 0, 0]]))


@pytest.mark.parametrize(
    ("names", "graded"),
    [(("0", "1", "2"), True), (("-1", "0", "10"), True), (("ccrcc", "crcc", "prcc"), False), (("0", "1"), False)],
)
def test_quadratic_kappa_is_of_three_grades_or_more(names, graded):
    assert ("quadratic_kappa" in metrics_for(names)) == graded
    assert metrics_for(names).keys() | {"quadratic_kappa"} == METRICS.keys()


def test_calibration_error_is_the_gap_between_sureness_and_share():
    sure = np.array([[0.1, 0.9]] * 10)
    assert METRICS["calibration_error"](np.array([1] * 9 + [0]), sure) == pytest.approx(0)
    assert METRICS["calibration_error"](np.array([1] * 5 + [0] * 5), sure) == pytest.approx(0.4)
    mixed = np.concatenate([sure, np.array([[0.6, 0.4]] * 10)])
    labels = np.array([1] * 10 + [0] * 4 + [1] * 6)
    assert METRICS["calibration_error"](labels, mixed) == pytest.approx((0.1 + 0.2) / 2)


def test_score_names_every_metric():
    assert score(*predictions(3, 10, 0), "012").keys() == METRICS.keys()
    assert score(*predictions(3, 10, 0)).keys() == METRICS.keys() - {"quadratic_kappa"}


def test_mean_and_deviation_over_folds_skip_what_is_missing():
    assert over_folds([0.5, 0.7, float("nan")]) == pytest.approx((0.6, math.sqrt(0.02)))
    mean, std = over_folds([0.5])
    assert mean == 0.5
    assert math.isnan(std)
    assert math.isnan(over_folds([])[0])


def test_draws_take_patients_whole_and_repeat_with_the_seed():
    patients = ["b", "a", "a", "c", "b"]
    drawn = np.concatenate(list(patient_draws(patients, 250, 3)))
    assert drawn.shape == (250, 5)
    assert (drawn[:, 0] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()
    np.testing.assert_array_equal(drawn, np.concatenate(list(patient_draws(patients, 250, 3))))


def test_the_interval_holds_the_value_repeats_and_narrows_with_patients():
    widths = []
    for count in (30, 600):
        labels, probabilities = predictions(2, count, 1)
        patients = [str(i) for i in range(len(labels))]
        low, high = interval(AUC, labels, probabilities, patients, draws=200, seed=3)
        assert low < AUC(labels, probabilities) < high
        assert (low, high) == interval(AUC, labels, probabilities, patients, draws=200, seed=3)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_slides_of_one_patient_are_drawn_together():
    """Eight copies of every slide under one patient tell no more than the slide alone."""
    labels, probabilities = predictions(2, 30, 0)
    patients = [str(i) for i in range(len(labels))]
    alone = interval(AUC, labels, probabilities, patients, draws=300)
    copies = [np.repeat(each, 8, axis=0) for each in (labels, probabilities, np.array(patients))]
    assert interval(AUC, *copies[:2], copies[2].tolist(), draws=300) == pytest.approx(alone)
    apart = interval(AUC, *copies[:2], [str(i) for i in range(len(copies[0]))], draws=300)
    assert apart[1] - apart[0] < (alone[1] - alone[0]) / 2


def test_no_interval_where_nothing_can_be_scored():
    low, high = interval(AUC, np.array([0, 0]), np.full((2, 2), 0.5), ["a", "b"], draws=5)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_difference_is_the_paired_bootstrap_over_patients(n_classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, 60)
    one, other = (rng.dirichlet(np.ones(n_classes), 60) for _ in range(2))
    one[np.arange(60), labels] += 0.6
    one /= one.sum(axis=1, keepdims=True)
    found = difference(AUC, labels, one, other, [f"P{number // 2}" for number in range(60)], draws=2000, seed=1)
    assert found.value == pytest.approx(AUC(labels, one) - AUC(labels, other))
    draws = []
    for _ in range(100):
        rows = np.concatenate([(2 * number, 2 * number + 1) for number in rng.integers(30, size=30)])
        draws.append(AUC(labels[rows], one[rows]) - AUC(labels[rows], other[rows]))
    np.testing.assert_allclose([found.low, found.high], np.percentile(draws, [2.5, 97.5]), atol=0.08)
    assert found.low < found.value < found.high


def test_a_model_does_not_differ_from_itself_and_nothing_is_no_difference():
    labels, one = predictions(2, 30, 0)
    patients = [str(i) for i in range(len(labels))]
    same = difference(AUC, labels, one, one, patients)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert difference(AUC, np.zeros(5, int), one[:5], one[:5], patients[:5]) is None


def test_p_is_twice_the_rarer_sign_of_the_drawn_differences():
    labels = np.arange(60) % 2
    rng, patients = np.random.default_rng(0), [str(i) for i in range(60)]
    scores = [labels * strength + rng.normal(size=60) for strength in (2, 1.2)]
    one, other = (np.stack([1 / (1 + np.exp(x)), 1 / (1 + np.exp(-x))], axis=1) for x in scores)
    found = difference(AUC, labels, one, other, patients, draws=500, seed=1)
    weights = np.concatenate(list(patient_draws(patients, 500, 1)))
    drawn = AUC.of_draws(labels, one, weights) - AUC.of_draws(labels, other, weights)
    assert found.value > 0
    assert found.p == pytest.approx(2 * (1 + (drawn <= 0).sum()) / 501)
    assert difference(AUC, labels, other, one, patients, draws=500, seed=1).p == found.p
    assert difference(AUC, labels, one, one, patients, draws=50).p == 1


def test_holm_corrects_as_the_worked_example_says():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_of_few_patients_is_no_less_than_exchanging_the_models_could_give():
    labels = np.arange(10) % 2
    sure, unsure = np.eye(2)[labels], np.full((10, 2), 0.5)
    found = difference(AUC, labels, sure, unsure, [str(number // 2) for number in range(10)], draws=2000)
    assert (found.value, found.low, found.patients, found.p) == (0.5, 0.5, 5, 2.0**-4)


def test_several_trainings_are_drawn_too():
    labels, patients = np.array([0, 1] * 15), [f"p{number}" for number in range(30)]
    right = np.stack([1.0 - labels, labels], axis=1)
    one, other = np.stack([right, 1 - right]), np.stack([right, right])  # the second training is wrong throughout
    found = difference(METRICS["accuracy"], labels, one, other, patients)
    assert (found.value, found.low, found.high) == (-0.5, -1, 0)
    same = difference(METRICS["accuracy"], labels, one[1:], other[1:], patients)
    assert (same.value, same.low, same.high) == (-1, -1, -1)
