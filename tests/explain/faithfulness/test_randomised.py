"""Weights drawn anew, group by group."""

import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import bag_of
from dtcwsi.explain.faithfulness.agreement import spearman
from dtcwsi.explain.faithfulness.maps import maps_of
from dtcwsi.explain.faithfulness.randomised import groups_of, reinitialised


@pytest.mark.parametrize("group", ["aggregator", "compressor", "both"])
def test_one_group_is_new_and_the_other_as_trained(draw_model, group):
    model = draw_model()
    fresh = reinitialised(model, group, seed=1)
    for part in ("aggregator", "compressor"):
        new = [
            torch.equal(*pair) for pair in zip(*(getattr(m, part).parameters() for m in (model, fresh)), strict=True)
        ]
        assert all(new) == (group not in (part, "both"))


def test_only_what_learns_can_be_drawn_anew(draw_model):
    assert groups_of(draw_model("abmil")) == groups_of(draw_model("tome-abmil")) == ("aggregator",)
    assert groups_of(draw_model()) == ("aggregator", "compressor", "both")


def test_a_seed_gives_the_same_weights_and_disturbs_no_other_draw(draw_model):
    model = draw_model()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other, third = (reinitialised(model, "both", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(one["aggregator.head.weight"], third["aggregator.head.weight"])


def test_maps_of_random_models_agree_with_a_trained_one_as_chance_does(right):
    trained = maps_of([right.model], right.bag)["attention"]
    found = [
        spearman(trained, maps_of([reinitialised(right.model, "both", seed=seed)], right.bag)["attention"])
        for seed in range(40)
    ]
    assert abs(np.mean(found)) < 0.15
    assert max(np.abs(found)) < 0.99


def test_importance_changes_with_the_compressor_though_scorers_start_flat(draw_model, slide):
    fresh = reinitialised(draw_model(), "compressor", seed=0)
    assert np.ptp(maps_of([fresh], bag_of(slide))["importance"]) > 0
