"""Curves against models asked one part at a time."""

import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import bag_of
from dtcwsi.explain.faithfulness.asking import part_of
from dtcwsi.explain.faithfulness.curves import SHARES, Curve, curves_of, mean_curves
from dtcwsi.explain.faithfulness.maps import falling_orders, maps_of
from dtcwsi.types import Bag


def test_each_step_is_what_the_models_say_of_that_part_alone(draw_model, slide):
    models, bag = [draw_model(seed=seed) for seed in (0, 1)], bag_of(slide)
    order = np.random.default_rng(0).permutation(len(bag))
    found = curves_of(models, bag, {"any": order}, 1, max_tokens=70)["any"]
    for step, share in enumerate(SHARES):
        gone = int(np.ceil(share * len(bag) - 1e-9))
        for curve, rows in ((found.deletion, order[gone:]), (found.insertion, order[:gone])):
            part = Bag(bag.features[rows], bag.coords[rows], bag.patch_size_level0)
            with torch.no_grad():
                logits = [model(part).logits[0] for model in models]
            probability = np.mean([row.softmax(0)[1].item() for row in logits])
            margin = np.mean([(row[1] - row[0]).item() for row in logits])
            assert curve.probability[step] == pytest.approx(probability, abs=1e-5)
            assert curve.margin[step] == pytest.approx(margin, abs=1e-5)


def test_right_attention_beats_chance_and_chance_beats_the_inverted_order(right):
    order = falling_orders(maps_of([right.model], right.bag), right.bag)["attention"]
    assert set(order[:2].tolist()) == set(right.needles)
    rng = np.random.default_rng(0)
    chance = {f"chance {number}": rng.permutation(len(order)) for number in range(5)}
    found = curves_of([right.model], right.bag, {"right": order, "inverted": order[::-1], **chance}, 1)
    floor, best, worst = mean_curves([found[name] for name in chance]), found["right"], found["inverted"]
    for area in ("probability_area", "margin_area"):
        deleted, inserted = (
            [getattr(getattr(one, way), area) for one in (best, floor, worst)] for way in ("deletion", "insertion")
        )
        assert deleted[0] < deleted[1] - 0.1 < deleted[2] - 0.2
        assert inserted[0] > inserted[1] + 0.1 > inserted[2] + 0.2
    assert found["right"].deletion.probability[SHARES.index(0.05)] < 0.1, "both needles are gone after 5 %"
    assert found["right"].insertion.probability[SHARES.index(0.05)] > 0.9


def test_the_area_is_the_mean_over_shares_however_the_steps_lie():
    line = np.array(SHARES)
    curve = Curve(1 - line, 4 * line)
    assert curve.probability_area == pytest.approx(0.5)
    assert curve.margin_area == pytest.approx(2.0)


def test_parts_keep_the_bags_order_coordinates_and_patch_size(slide):
    part = part_of(bag_of(slide), np.array([7, 2, 4]))
    assert part.coords.tolist() == slide.coords[[2, 4, 7]].tolist()
    assert part.patch_size_level0 == 256.0


def test_a_model_in_training_is_asked_as_in_evaluation_and_left_in_training(draw_model, slide):
    model = draw_model("abmil", dropout=0.5)
    bag, order = bag_of(slide), {"any": np.arange(30)}
    expected = curves_of([model], bag, order, 0)["any"].deletion.margin
    model.train()
    np.testing.assert_array_equal(curves_of([model], bag, order, 0)["any"].deletion.margin, expected)
    assert model.training
