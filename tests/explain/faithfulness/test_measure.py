"""A slide's maps put to the test."""

from dataclasses import replace

import numpy as np
import pytest

from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.bags.packing import bag_of
from dtcwsi.errors import FeaturesError, UsageError
from dtcwsi.explain.faithfulness import Draws, TruthMask, curves, measure_slide
from dtcwsi.explain.faithfulness.agreement import spearman
from dtcwsi.explain.faithfulness.maps import MAPS, maps_of
from dtcwsi.explain.faithfulness.table import rows_of

FEW = Draws(orders=1, weights=1)
TRUTH = TruthMask(np.zeros((64, 64), bool), 16)
TRUTH.lesion[:16, :32] = True  # the first two patches of the first row, at 16 level-0 pixels a pixel


FLAT = ("mean",)


@pytest.mark.filterwarnings("ignore:panther's prototypes are random")
@pytest.mark.parametrize("name", [*(f"dtc-{name}" for name in AGGREGATORS.names()), "abmil", "mean", "tome-clam-sb"])
def test_every_aggregator_can_be_measured(monkeypatch, draw_model, slide, name):
    """All numbers are finite, and missing only where a map ranks nothing or there is nothing to compare with."""
    monkeypatch.setattr(curves, "SHARES", (0.0, 0.2, 1.0))
    small = replace(slide, features=slide.features[:8], coords=slide.coords[:8])
    model, other = (draw_model(name, seed) for seed in (0, 1))
    rows = rows_of(measure_slide([model], small, folds=[other], seeds=[other], truth=TRUTH, draws=FEW))
    maps = MAPS if name.startswith("dtc-") else MAPS[:1]
    assert list(rows) == [*maps, "random"]
    assert np.isfinite([value for row in rows.values() for value in row.values() if value is not None]).all()
    for each in maps:
        missing = {measure for measure, value in rows[each].items() if value is None}
        expected = {"importance": {"redrawn_aggregator"}, "both": {"dice_above_share"}}.get(each, set())
        if len(maps) == 1:
            expected = {"redrawn_compressor", "redrawn_both"}
        if name in FLAT:
            expected |= {"folds_spearman", "seeds_spearman", "redrawn_aggregator"}
        assert missing == expected


def test_the_same_arguments_give_the_same_numbers_and_another_seed_others(draw_model, slide):
    model = draw_model()
    one, again = (rows_of(measure_slide([model], slide, draws=FEW)) for _ in range(2))
    other = rows_of(measure_slide([model], slide, draws=Draws(orders=1, weights=1, seed=1)))
    assert one == again
    assert one["random"] != other["random"]
    assert one["attention"]["redrawn_both"] != other["attention"]["redrawn_both"]
    assert one["attention"]["deletion"] == other["attention"]["deletion"]


def test_gains_are_what_a_map_has_over_random_orders(draw_model, slide):
    rows = rows_of(measure_slide([draw_model()], slide, draws=FEW))
    for name in ("attention", "importance", "both"):
        assert rows[name]["deletion_gain"] == rows["random"]["deletion"] - rows[name]["deletion"]
        assert rows[name]["insertion_margin_gain"] == (
            rows[name]["insertion_margin"] - rows["random"]["insertion_margin"]
        )


def test_maps_are_compared_with_each_other_fold_or_among_several_models(draw_model, slide):
    models = [draw_model("abmil", seed=seed) for seed in range(3)]
    maps = [maps_of([model], bag_of(slide))["attention"] for model in models]
    alike = {pair: spearman(maps[pair[0]], maps[pair[1]]) for pair in ((0, 1), (0, 2), (1, 2))}
    one = measure_slide(models[:1], slide, folds=models[1:], seeds=models[2:], draws=FEW).maps["attention"]
    assert one.folds.spearman == pytest.approx(np.mean([alike[0, 1], alike[0, 2]]))
    assert one.seeds.spearman == pytest.approx(alike[0, 2])
    several = measure_slide(models, slide, draws=FEW).maps["attention"]
    assert several.folds.spearman == pytest.approx(np.mean(list(alike.values())))
    assert several.seeds is None
    alone = measure_slide(models[:1], slide, draws=FEW).maps["attention"]
    assert alone.folds is None


def test_a_patch_size_that_is_not_known_is_the_whole_slides(draw_model, slide):
    known, unknown = (
        rows_of(measure_slide([draw_model("dtc-hipt")], replace(slide, patch_size_level0=size), draws=FEW))
        for size in (256.0, None)
    )
    assert known == unknown


def test_what_cannot_be_measured_is_refused(draw_model, slide):
    model = draw_model("abmil")
    empty = replace(slide, features=slide.features[:0], coords=slide.coords[:0])
    with pytest.raises(FeaturesError, match="'s1' has no patches, so that there is no map; leave the slide out"):
        measure_slide([model], empty)
    with pytest.raises(FeaturesError, match="'s1' have no coordinates, so that no mask can be laid on them"):
        measure_slide([model], replace(slide, coords=None), truth=TRUTH, draws=FEW)
    with pytest.raises(UsageError, match="no model was given to be measured"):
        measure_slide([], slide)
