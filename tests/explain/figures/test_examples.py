"""Examples are of their kind, the clearest of it, apart from each other, and the same every time."""

import numpy as np

from dtcwsi.explain.fates import KEPT, MERGED, PRUNED
from dtcwsi.explain.figures.examples import choose_groups, choose_kept, choose_pruned, choose_top
from dtcwsi.explain.figures.inside import look_inside

from .conftest import features_of
from .test_painting import fates_with


def test_they_are_what_they_are_said_to_be(make_model):
    features = features_of(12, 12, 100)
    inside = look_inside(make_model(merge_share=0.6, flat_start=False), features)
    fates, coords = inside.fates, features.coords
    groups = choose_groups(fates, coords, 4)
    assert len(groups) == 4
    for group in groups:
        assert len(set(fates.token[group])) == 1
        assert (fates.token == fates.token[group[0]]).sum() == len(group) > 1
        assert (np.diff(group) > 0).all()
    pruned = choose_pruned(fates, coords, inside.importance, 8)
    assert (fates.fate[pruned] == PRUNED).all()
    assert len(set(pruned.tolist())) == 8
    assert pruned[0] == np.flatnonzero(fates.fate == PRUNED)[inside.importance[fates.fate == PRUNED].argmin()]
    kept = choose_kept(fates, coords, 5)
    assert (fates.fate[kept] == KEPT).all()
    assert fates.attention[kept[0]] == fates.attention[fates.fate == KEPT].max()
    again = look_inside(make_model(merge_share=0.6, flat_start=False), features).fates
    assert all((one == other).all() for one, other in zip(groups, choose_groups(again, coords, 4), strict=True))


def test_the_largest_group_comes_first_and_the_second_lies_far_from_it():
    group = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])
    coords = np.stack([np.arange(9) * 100, np.zeros(9)], axis=1).astype(np.int64)
    fates = fates_with([MERGED] * 9, group.tolist(), [1 / 9] * 9)
    assert [members.tolist() for members in choose_groups(fates, coords, 2)] == [[0, 1, 2], [7, 8]]


def test_groups_pruned_later_are_shown_only_where_none_is_left():
    coords = np.zeros((4, 2), np.int64)
    both = fates_with([PRUNED, PRUNED, MERGED, MERGED], [0, 0, 1, 1], [0, 0, 0.5, 0.5])
    assert [group.tolist() for group in choose_groups(both, coords, 3)] == [[2, 3]]
    gone = fates_with([PRUNED, PRUNED, KEPT, KEPT], [0, 0, 1, 2], [0, 0, 0.5, 0.5])
    assert [group.tolist() for group in choose_groups(gone, coords, 3)] == [[0, 1]]


def test_patches_without_attention_are_not_among_the_top():
    fates = fates_with([KEPT, KEPT, PRUNED], [0, 1, 2], [0.2, 0.8, 0.0])
    assert choose_top(fates, 3).tolist() == [1, 0]
    nothing = fates_with([], [], [])
    assert choose_groups(nothing, np.zeros((0, 2), np.int64), 3) == []
    assert len(choose_top(nothing, 3)) == 0
