import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from dtcwsi.thresholds import chosen_thresholds, decisions


def shares(labels, probabilities, threshold):
    found = probabilities[:, 1] >= threshold
    return found[labels == 1].mean(), (~found)[labels == 0].mean()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=30))
def test_thresholds_are_the_best_that_a_search_over_all_finds(slides):
    labels = np.array([int(label) for label, _ in slides])
    sure = np.array([level / 12 for _, level in slides])
    probabilities = np.stack([1 - sure, sure], axis=1)
    found = chosen_thresholds(labels, probabilities)
    if len(set(labels.tolist())) == 1:
        assert found == {"half": 0.5}
        return
    every = np.linspace(-0.01, 1.01, 1000)
    best = max(sum(shares(labels, probabilities, one)) for one in every)
    assert sum(shares(labels, probabilities, found["youden"])) == pytest.approx(best)
    assert shares(labels, probabilities, found["sensitivity_95"])[0] >= 0.95
    larger = [one for one in every if one > sure[sure >= found["sensitivity_95"]].min()]
    assert all(shares(labels, probabilities, one)[0] < 0.95 for one in larger)


def test_decisions_count_what_the_threshold_finds_and_leaves():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    sure = np.array([0.9, 0.6, 0.2, 0.7, 0.3, 0.1, 0.1, 0.1])
    probabilities = np.stack([1 - sure, sure], axis=1)
    told = decisions({"own": 0.6, "never": 1.1}, labels, probabilities, [f"p{number}" for number in range(8)])
    assert told["own"]["threshold"] == 0.6
    values = {name: told["own"][name]["value"] for name in ("sensitivity", "specificity", "ppv", "npv")}
    assert values == pytest.approx({"sensitivity": 2 / 3, "specificity": 4 / 5, "ppv": 2 / 3, "npv": 4 / 5})
    exact = binomtest(4, 5).proportion_ci(0.95, method="exact")
    assert told["own"]["specificity"]["interval_95"] == pytest.approx(list(exact))
    assert told["never"]["ppv"] == {"value": None, "patients": 0, "interval_95": [None, None]}


def test_intervals_count_patients_and_doubt_what_is_always_right():
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    sure = np.array([0.9, 0.2, 0.8, 0.2, 0.6, 0.2, 0.1, 0.1, 0.3, 0.2])
    probabilities = np.stack([1 - sure, sure], axis=1)
    patients = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "f"]
    (told,) = decisions({"half": 0.5}, labels, probabilities, patients).values()
    assert (told["specificity"]["value"], told["specificity"]["patients"]) == (1, 3)
    assert told["specificity"]["interval_95"] == pytest.approx([0.025 ** (6 / 16), 1])  # d, e, f: (2 + 1 + 1)^2 / 6
    low, high = told["sensitivity"]["interval_95"]
    assert (told["sensitivity"]["value"], told["sensitivity"]["patients"]) == (0.5, 3)
    assert low == pytest.approx(1 - high)  # though each patient has one right and one wrong
    assert binomtest(1, 3).proportion_ci(0.95, method="exact").low < low < 0.2
    never = decisions({"never": 1.1}, labels, probabilities, patients)["never"]["sensitivity"]
    assert never["interval_95"] == pytest.approx([0, 1 - 0.025 ** (1 / 3)])


@given(st.integers(1, 30), st.data())
def test_intervals_of_patients_of_one_slide_are_the_exact_ones(slides, data):
    hits = data.draw(st.integers(0, slides))
    labels, sure = np.ones(slides, np.int64), np.where(np.arange(slides) < hits, 0.9, 0.1)
    told = decisions({"half": 0.5}, labels, np.stack([1 - sure, sure], axis=1), [f"p{one}" for one in range(slides)])
    exact = binomtest(hits, slides).proportion_ci(0.95, method="exact")
    assert told["half"]["sensitivity"]["interval_95"] == pytest.approx(list(exact))
