"""Sentences follow from the intervals, and from nothing else."""

import pytest

from dtcwsi.explain.faithfulness.table import Estimate
from dtcwsi.explain.faithfulness.verdict import verdicts

ABOVE, BELOW, AROUND = "above", "below", "around"


@pytest.mark.parametrize(
    ("measure", "chance", "words"),
    [
        ("deletion_margin_gain", 0.0, {ABOVE: "the decision rests", BELOW: "matter less", AROUND: "cannot be told"}),
        ("insertion_margin_gain", 0.0, {ABOVE: "sooner than", BELOW: "later than", AROUND: "no sooner, as far as"}),
        ("lesion_auroc", 0.5, {ABOVE: "lesion above", BELOW: "lesion below", AROUND: "no better than chance, as far"}),
        ("folds_spearman", 0.0, {ABOVE: "alike, more than", BELOW: "the other way", AROUND: "no more alike"}),
        ("redrawn_both", 0.0, {ABOVE: "some of it stays", BELOW: "turns it round", AROUND: "stays, as far as"}),
    ],
)
def test_an_interval_is_held_against_chance(measure, chance, words):
    for where, told in words.items():
        low = chance + {ABOVE: 0.01, BELOW: -0.2, AROUND: -0.01}[where]
        (said,) = verdicts({"attention": {measure: Estimate(0.25, low, low + 0.1, 10)}})
        assert told in said
        assert said.startswith("**attention**: ")
        assert said.endswith("(0.25 logits)." if "margin" in measure else "(0.25).")
    assert verdicts({"attention": {measure: Estimate(0.25, chance, chance + 0.1, 10)}}) == verdicts(
        {"attention": {measure: Estimate(0.25, chance - 0.1, chance, 10)}}
    )


def test_what_stays_without_the_aggregators_weights_is_told_where_it_is_most():
    said = verdicts({"attention": {"redrawn_aggregator": Estimate(0.97, 0.9, 1.0, 60)}})
    assert "most of it stays when the aggregator's weights are drawn anew" in said[0]
    assert verdicts({"attention": {"redrawn_aggregator": Estimate(0.4, 0.3, 0.5, 60)}}) == []


def test_few_slides_no_interval_and_orders_by_chance_say_nothing():
    alone, few, told = Estimate(0.6, None, None, 60), Estimate(0.6, 0.55, 0.7, 9), Estimate(2.0, 1.0, 3.0, 60)
    assert verdicts({"attention": {"lesion_auroc": alone}, "importance": {"lesion_auroc": few}}) == []
    assert verdicts({"random": {"deletion_margin_gain": told}}) == []
    assert len(verdicts({"attention": {"deletion_margin_gain": told}, "both": {"deletion_margin_gain": told}})) == 2
