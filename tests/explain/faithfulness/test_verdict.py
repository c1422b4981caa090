"""Sentences follow from the intervals, and from nothing else."""

import pytest

from dtcwsi.explain.faithfulness.table import Estimate
from dtcwsi.explain.faithfulness.verdict import verdicts


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.55, 0.9, "it ranks lesion above the rest (0.60)"),
        (0.1, 0.4, "it ranks lesion below the rest (0.60)"),
        (0.4, 0.9, "it finds the lesion no better than chance, as far as can be told (0.60)"),
        (0.5, 0.9, "it finds the lesion no better than chance, as far as can be told (0.60)"),
    ],
)
def test_an_interval_is_held_against_chance(low, high, words):
    assert verdicts({"attention": {"lesion_auroc": Estimate(0.6, low, high, 9)}}) == [f"**attention**: {words}."]


def test_measures_without_an_interval_and_orders_by_chance_say_nothing():
    alone, told = Estimate(0.6, None, None, 1), Estimate(2.0, 1.0, 3.0, 9)
    means = {"attention": {"lesion_auroc": alone}, "importance": {"deletion_margin_gain": told}, "random": {}}
    assert verdicts(means) == ["**importance**: the decision rests on its top patches (2.00)."]
    assert verdicts({"random": {"deletion": told}}) == []
