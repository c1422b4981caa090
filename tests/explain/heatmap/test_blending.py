"""Pixels get what patches give them, to the area."""

import numpy as np
import pytest

from dtcwsi.explain.heatmap.blending import Frame, HeatLayer, blend


def by_hand(layer: HeatLayer, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Heat and cover, pixel by pixel and patch by patch."""
    heat, cover = np.zeros((frame.height, frame.width)), np.zeros((frame.height, frame.width))
    for row, column in np.ndindex(heat.shape):
        low = np.array(frame.origin_level0) + np.array([column, row]) * frame.pixel_level0
        across = np.minimum(low + frame.pixel_level0, layer.coords + layer.patch_size_level0)
        area = (across - np.maximum(low, layer.coords)).clip(0).prod(axis=1) / frame.pixel_level0**2
        lit = np.isfinite(layer.heat)
        if area[lit].sum():
            heat[row, column] = (area[lit] * layer.heat[lit]).sum() / area[lit].sum()
            cover[row, column] = min(1, area[lit].sum())
    return heat, cover


@pytest.mark.parametrize(
    ("pixel_level0", "patch_size", "origin"),
    [(16.0, 224.0, (0.0, 0.0)), (7.3, 33.7, (11.0, -5.0)), (100.0, 12.5, (-40.0, 3.0)), (1.0, 9.0, (20.0, 20.0))],
    ids=["whole pixels", "fractions and an offset", "patches below a pixel", "one patch over all"],
)
def test_heat_is_the_mean_by_area_of_overlapping_patches(pixel_level0, patch_size, origin):
    rng = np.random.default_rng(0)
    frame = Frame(14, 9, pixel_level0, origin)
    coords = (rng.random((40, 2)) * np.array([14, 9]) * pixel_level0 + origin).astype(np.int64) - 5
    heat = rng.random(40)
    heat[::5] = np.nan
    layer = HeatLayer(coords, patch_size, heat)
    made, (expected_heat, expected_cover) = blend(layer, frame), by_hand(layer, frame)
    np.testing.assert_allclose(made.cover, expected_cover, atol=1e-6)
    np.testing.assert_allclose(made.heat, expected_heat, atol=1e-6)


def test_neighbours_leave_no_seam_at_any_scale():
    side = 37.5
    coords = np.rint(np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) * 37).astype(np.int64)
    for pixel in (1.0, 3.3, 16.0, 61.0):
        pixels = int(8 * 37 // pixel)
        made = blend(HeatLayer(coords, side, np.full(64, 0.25)), Frame(pixels, pixels, pixel))
        assert made.cover.min() > 1 - 1e-6
        np.testing.assert_allclose(made.heat, 0.25, atol=1e-6)


def test_patches_without_attention_are_bare_and_cool_no_other():
    made = blend(HeatLayer(np.array([[0, 0], [1, 0], [2, 0]]), 2.0, np.array([np.nan, 0.8, 0.4])), Frame(5, 1, 1.0))
    np.testing.assert_allclose(made.cover[0], [0, 1, 1, 1, 0])
    np.testing.assert_allclose(made.heat[0], [0, 0.8, 0.6, 0.4, 0], atol=1e-7)


def test_a_part_of_a_frame_shows_what_the_whole_shows():
    rng = np.random.default_rng(1)
    layer = HeatLayer(rng.integers(0, 300, (50, 2)), 41.0, rng.random(50))
    whole, part = Frame(40, 30, 9.1), Frame(40, 30, 9.1).part(11, 7, 20, 25)
    np.testing.assert_allclose(blend(layer, part).heat[:23], blend(layer, whole).heat[7:30, 11:31], atol=1e-6)


def test_nothing_gives_nothing():
    made = blend(HeatLayer(np.zeros((0, 2), np.int64), 1.0, np.zeros(0)), Frame(3, 2, 16.0))
    assert made.heat.shape == (2, 3)
    assert not made.cover.any()
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(2, 2\)"):
        HeatLayer(np.zeros((1, 2), np.int64), 1.0, np.zeros(2))
