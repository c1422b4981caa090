"""Counts by hand."""

from dataclasses import replace

import numpy as np
import pytest

from dtcwsi.explain.report.confusion import confusions
from dtcwsi.explain.report.runs import read_run


@pytest.fixture
def run(runs):
    chances = [0.9, 0.8, 0.4, 0.3, 0.2, 0.6, 0.7, 0.1]
    probabilities = np.array([[1 - chance, chance] for chance in chances])
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    return replace(read_run(runs[0]), labels=labels, probabilities=probabilities, patients=tuple("abcdefgh"))


def test_rows_are_true_and_columns_predicted(run):
    (one,) = confusions({"m": run})
    assert one.counts == ((3, 2), (1, 2))
    assert one.shares == ((0.6, 0.4), (1 / 3, 2 / 3))
    half = one.decisions["half"]
    assert half["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert half["specificity"]["value"] == pytest.approx(0.6)
    assert one.decisions["sensitivity_95"]["sensitivity"]["value"] == 1


def test_a_class_without_slides_has_no_shares(run):
    three = replace(run, classes=("a", "b", "c"), probabilities=np.pad(run.probabilities, ((0, 0), (0, 1))))
    (one,) = confusions({"m": three})
    assert one.shares[2] == (None, None, None)
    assert one.decisions == {}
    empty = replace(run, labels=run.labels[:0], probabilities=run.probabilities[:0], patients=())
    assert confusions({"m": empty}) == []
