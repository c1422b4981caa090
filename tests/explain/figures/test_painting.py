"""The rasters: what is drawn is where and what it should be."""

import cv2
import numpy as np
import pytest

from dtcwsi.explain.fates import KEPT, MERGED, PRUNED, PatchFates, attention_percentile
from dtcwsi.explain.figures.canvas import Canvas, owners
from dtcwsi.explain.figures.painting import (
    FATE_COLOURS,
    PALE,
    attention_colours,
    paint_attention,
    paint_groups,
    paint_pruning,
    paint_stage,
    paint_values,
)

SIDE = 20
COORDS = np.array([[0, 0], [20, 0], [40, 0], [60, 0], [0, 20], [20, 20]])


def fates_with(fate: list[int], group: list[int], attention: list[float]) -> PatchFates:
    shares = np.array(attention)
    token = np.where(np.array(fate) == PRUNED, -1, group)
    return PatchFates(
        np.array(fate, np.int8),
        np.zeros(len(fate), np.int64),
        token,
        np.array(group),
        shares,
        attention_percentile(shares),
    )


@pytest.fixture
def canvas() -> Canvas:
    picture = np.random.default_rng(0).integers(120, 255, (60, 100, 3)).astype(np.uint8)
    return Canvas(picture, 1.0)


@pytest.fixture
def fates() -> PatchFates:
    return fates_with([KEPT, MERGED, MERGED, PRUNED, PRUNED, PRUNED], [0, 1, 1, 2, 3, 3], [0.5, 0.2, 0.3, 0, 0, 0])


def inside(index: int) -> tuple[slice, slice]:
    x, y = COORDS[index]
    return slice(y + 4, y + SIDE - 4), slice(x + 4, x + SIDE - 4)


def test_attention_tints_patches_by_percentile_and_leaves_the_rest_grey(canvas, fates):
    drawn = paint_attention(canvas, owners(canvas, COORDS, SIDE), fates)
    top = drawn[inside(0)].astype(float)
    expected = attention_colours()[100].astype(float)
    np.testing.assert_allclose(
        top / top.max(axis=2, keepdims=True), np.broadcast_to(expected / expected.max(), top.shape), atol=0.02
    )
    for grey in (drawn[inside(3)], drawn[45:, :]):
        assert (grey == grey[..., :1]).all()


def test_what_no_patch_shows_is_paler_than_what_was_pruned(canvas, fates):
    drawn = paint_attention(canvas, owners(canvas, COORDS, SIDE), fates)
    grey = cv2.cvtColor(canvas.picture, cv2.COLOR_RGB2GRAY).astype(int)
    pruned, uncut = inside(3), np.s_[50:, 85:]
    assert (drawn[pruned][..., 0] == grey[pruned]).all()
    assert (np.abs(drawn[uncut][..., 0] - (grey[uncut] + PALE * (255 - grey[uncut]))) <= 1).all()
    assert (grey[uncut] < 255).any()


def test_a_group_shares_interior_and_border(canvas, fates):
    drawn = paint_groups(canvas, owners(canvas, COORDS, SIDE), fates)
    one, other = drawn[inside(1)].reshape(-1, 3), drawn[inside(2)].reshape(-1, 3)
    assert len(np.unique(np.concatenate([one, other]), axis=0)) == 1
    assert len(np.unique(drawn[0, 20:60], axis=0)) == 1
    assert (drawn[5:15, 39:41] == one[0]).all(), "no border between patches of one group"


def test_what_never_merged_keeps_its_tissue_in_the_merging_picture(canvas, fates):
    drawn = paint_groups(canvas, owners(canvas, COORDS, SIDE), fates)
    assert (drawn[inside(0)] == canvas.picture[inside(0)]).all()
    assert (drawn[inside(3)] == canvas.picture[inside(3)]).all()
    assert (drawn[0, 0] == FATE_COLOURS["kept"]).all()
    assert (drawn[50:, 80:] == canvas.picture[50:, 80:]).all()


def test_groups_pruned_later_are_drawn_as_groups(canvas, fates):
    drawn = paint_groups(canvas, owners(canvas, COORDS, SIDE), fates)
    assert len(np.unique(drawn[inside(4)].reshape(-1, 3), axis=0)) == 1


def test_pruning_darkens_the_pruned_and_shows_the_rest(canvas, fates):
    drawn = paint_pruning(canvas, owners(canvas, COORDS, SIDE), fates)
    assert drawn[inside(3)].max() < 80
    assert (drawn[inside(0)] == canvas.picture[inside(0)]).all()
    assert (drawn[0, 0] == FATE_COLOURS["kept"]).all()
    assert (drawn[0, 30] == FATE_COLOURS["merged"]).all()


def test_groups_that_touch_never_look_alike():
    side = 24
    coords = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 10
    group = (coords[:, 1] // 10) * (side // 2) + coords[:, 0] // 20
    fates = fates_with([MERGED] * len(coords), group.tolist(), [1 / len(coords)] * len(coords))
    canvas = Canvas(np.full((240, 240, 3), 200, np.uint8), 1.0)
    drawn = paint_groups(canvas, owners(canvas, coords, 10), fates)[5::10, 10::20].astype(int)
    assert (np.abs(np.diff(drawn, axis=0)).sum(axis=2) > 20).all()
    assert (np.abs(np.diff(drawn, axis=1)).sum(axis=2) > 20).all()


def test_scattered_groups_that_touch_never_look_alike_either():
    side, many = 24, 40
    coords = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 10
    group = np.random.default_rng(0).integers(0, many, len(coords))
    fates = fates_with([MERGED] * len(coords), np.unique(group, return_inverse=True)[1].tolist(), [0.001] * len(coords))
    canvas = Canvas(np.full((240, 240, 3), 200, np.uint8), 1.0)
    drawn = paint_groups(canvas, owners(canvas, coords, 10), fates)[5::10, 5::10].astype(int)
    group = fates.group.reshape(side, side)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:, 1:], np.s_[:-1, :-1])):
        alike = np.abs(drawn[one] - drawn[other]).sum(axis=2) < 6
        assert (alike == (group[one] == group[other])).all()


def test_stages_show_groups_and_what_is_gone(canvas, fates):
    owner = owners(canvas, COORDS, SIDE)
    drawn = paint_stage(canvas, owner, fates)
    assert drawn[inside(4)].max() < 80
    assert (drawn[inside(1)] == paint_groups(canvas, owner, fates)[inside(1)]).all()


def test_values_take_their_colour_and_what_is_not_shown_stays_grey(canvas, fates):
    shown = np.array([True, True, False, True, True, True])
    drawn = paint_values(canvas, owners(canvas, COORDS, SIDE), np.array([0.0, 50, 100, 100, 100, 100]), shown)
    for patch, percent in ((0, 0), (1, 50)):
        tint = drawn[inside(patch)].reshape(-1, 3).mean(axis=0)
        expected = attention_colours()[percent].astype(float)
        np.testing.assert_allclose(tint / tint.max(), expected / expected.max(), atol=0.03)
    assert (drawn[inside(2)] == drawn[inside(2)][..., :1]).all()


def test_no_patches_leave_the_picture_alone(canvas):
    nothing = fates_with([], [], [])
    owner = owners(canvas, np.zeros((0, 2), np.int64), 1.0)
    assert (paint_groups(canvas, owner, nothing) == canvas.picture).all()
    assert (paint_pruning(canvas, owner, nothing) == canvas.picture).all()
    assert paint_attention(canvas, owner, nothing).shape == canvas.picture.shape


def test_a_hundred_thousand_patches():
    side = 320
    coords = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:100_000] * 256
    rng = np.random.default_rng(0)
    group = np.arange(len(coords)) // 2
    fate = rng.permuted(np.repeat([KEPT, MERGED, PRUNED], [20_000, 40_000, 40_000]))
    fates = fates_with(fate.tolist(), group.tolist(), rng.random(len(coords)).tolist())
    canvas = Canvas(np.full((1200, 1200, 3), 220, np.uint8), side * 256 / 1200)
    owner = owners(canvas, coords, 256)
    assert len(np.unique(owner)) == len(coords) + 1
    for paint in (paint_attention, paint_groups, paint_pruning):
        assert paint(canvas, owner, fates).shape == (1200, 1200, 3)
