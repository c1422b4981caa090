"""Maps of models, and the order in which they rank patches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import bag_of, pack
from dtcwsi.explain.faithfulness.maps import falling_orders, maps_of
from dtcwsi.explain.fates import attention_percentile


def test_importance_adds_up_to_the_mass_of_tokens(draw_model, slide):
    model, bag = draw_model(position="xy"), bag_of(slide)
    tokens = model.compress(pack([bag]))
    importance = torch.from_numpy(maps_of([model], bag)["importance"])
    assert importance.sum() == pytest.approx(1)
    inside = tokens.patch_to_token >= 0
    mass = torch.zeros(len(tokens.mass), dtype=importance.dtype)
    mass.index_add_(0, tokens.patch_to_token[inside], importance[inside])
    np.testing.assert_allclose(mass, tokens.mass.detach(), atol=1e-6)


def test_both_is_the_mean_percentile_of_attention_and_importance_averaged_over_models(draw_model, slide):
    models, bag = [draw_model(seed=seed) for seed in (0, 1)], bag_of(slide)
    each, maps = [maps_of([model], bag) for model in models], maps_of(models, bag)
    for name in ("attention", "importance"):
        np.testing.assert_allclose(maps[name], np.mean([one[name] for one in each], axis=0))
    percentiles = [attention_percentile(maps[name]) for name in ("attention", "importance")]
    np.testing.assert_allclose(maps["both"], np.mean(percentiles, axis=0))


@pytest.mark.parametrize("name", ["abmil", "tome-abmil", "random-abmil"])
def test_models_that_learn_no_importance_have_attention_alone(draw_model, slide, name):
    assert list(maps_of([draw_model(name)], bag_of(slide))) == ["attention"]


def test_orders_follow_the_patches_however_they_are_given(draw_model, slide):
    model, shuffled = draw_model(), np.random.default_rng(1).permutation(30)
    other = replace(slide, features=slide.features[shuffled], coords=slide.coords[shuffled])
    orders = [falling_orders(maps_of([model], bag), bag) for bag in (bag_of(slide), bag_of(other))]
    for name in ("attention", "importance", "both"):
        assert orders[0][name].tolist() == shuffled[orders[1][name]].tolist()


def test_ties_are_thinned_evenly_over_the_slide(slide):
    order = falling_orders({"flat": np.full(30, 1 / 30)}, bag_of(slide))["flat"]
    columns = slide.coords[order[:15], 0] // 256
    assert sorted(order.tolist()) == list(range(30))
    assert np.bincount(columns, minlength=4).tolist() == [4, 4, 4, 3], "half of each column of eight, eight, eight, six"


def test_models_with_a_map_a_class_are_asked_of_one_class(draw_model, slide):
    models, bag = [draw_model("clam-mb", seed=seed) for seed in (0, 1, 2)], bag_of(slide)
    for target in (0, 1):
        own = [model(pack([bag])).attention_by_class[:, target].detach().numpy() for model in models]
        np.testing.assert_allclose(maps_of(models, bag, target)["attention"], np.mean(own, axis=0), atol=1e-7)
