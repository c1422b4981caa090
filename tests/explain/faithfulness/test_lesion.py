"""Heatmaps against the truth."""

import cv2
import numpy as np
import pytest

from dtcwsi.errors import SlideError
from dtcwsi.explain.faithfulness.lesion import dice, lesion_auroc, lesion_cover, lesion_scores, read_mask

COORDS = np.array([[0, 0], [160, 0], [320, 0], [0, 160]])


def test_cover_is_exact_between_mask_pixels():
    mask = np.zeros((20, 40), bool)
    mask[:, 10:] = True  # lesion from level-0 pixel 160 on
    cover = lesion_cover(np.array([[0, 0], [160, 0], [80, 0], [151, 8]]), 160, mask, downsample=16)
    np.testing.assert_allclose(cover, [0, 1, 0.5, 151 / 160])


def test_patches_over_the_masks_rim_count_what_is_there():
    mask = np.ones((10, 10), bool)
    assert lesion_cover(np.array([[80, 0]]), 160, mask, downsample=16)[0] == pytest.approx(0.5)


def test_auroc_of_right_and_wrong_attention():
    mask = np.zeros((20, 30), bool)
    mask[:10, 10:20] = True
    assert lesion_auroc(np.array([0.1, 0.7, 0.1, 0.1]), COORDS, 160, mask, downsample=16) == 1.0
    assert lesion_auroc(np.array([0.4, 0.0, 0.3, 0.3]), COORDS, 160, mask, downsample=16) == 0.0
    assert lesion_auroc(np.array([0.25, 0.25, 0.25, 0.25]), COORDS, 160, mask, downsample=16) == 0.5


def test_a_quarter_of_a_patch_is_lesion():
    mask = np.zeros((20, 30), bool)
    mask[:10, :2] = True
    mask[:10, 10:13] = True
    score = lesion_auroc(np.array([0.9, 0.5, 0.1, 0.1]), COORDS, 160, mask, downsample=16)
    assert score == pytest.approx(2 / 3), "patch 1 (30 %) is lesion, patch 0 (20 %) is not"


@pytest.mark.parametrize("lesion", [False, True])
def test_one_kind_of_patch_cannot_be_scored(lesion):
    mask = np.full((20, 30), lesion)
    assert lesion_auroc(np.full(4, 0.25), COORDS, 160, mask, downsample=16) is None


def test_masks_are_read_and_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "mask.png"), np.array([[0, 255], [127, 128]], np.uint8))
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, True], [False, True]]
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SlideError, match=r"text\.png is no readable picture; expected a PNG mask"):
        read_mask(tmp_path / "text.png")


def test_dice_against_a_count_by_hand():
    chosen, lesion = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert dice(chosen, lesion) == 2 * 1 / (3 + 2)
    assert dice(np.zeros(5, bool), lesion) == 0.0


def test_dice_of_as_many_patches_and_of_those_above_an_even_share():
    values, lesion = np.array([0.5, 0.3, 0.15, 0.05, 0.0]), np.array([1, 0, 1, 0, 0], bool)
    found = lesion_scores(values, np.array([0, 1, 2, 3, 4]), lesion, shares=True)
    assert found.auroc == pytest.approx(5 / 6)
    assert found.dice_as_many == 0.5, "patches 0 and 1 are at the top, 0 and 2 are lesion"
    assert found.dice_above_share == 0.5, "patches 0 and 1 have more than 0.2"
    assert lesion_scores(values, np.arange(5), lesion, shares=False).dice_above_share is None
    assert lesion_scores(values, np.arange(5), np.ones(5, bool), shares=True) is None


def test_ties_at_the_edge_of_as_many_fall_as_the_order_says():
    lesion = np.array([0, 1], bool)
    found = [lesion_scores(np.full(2, 0.5), np.array(order), lesion, shares=True) for order in ([0, 1], [1, 0])]
    assert [scores.dice_as_many for scores in found] == [0.0, 1.0]
