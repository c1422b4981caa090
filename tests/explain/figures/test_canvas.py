"""Patches lie on the picture where they lie on the slide."""

import numpy as np
import pytest

from dtcwsi.explain.figures.canvas import Canvas, blank_canvas, owners, scale_bar, slide_canvas
from dtcwsi.slides import open_slide


def canvas_of(height: int, width: int, pixel_level0: float, **more: object) -> Canvas:
    return Canvas(np.zeros((height, width, 3), np.uint8), pixel_level0, **more)


def test_a_pixel_belongs_to_the_patch_that_covers_its_centre():
    coords = np.array([[10, 20], [110, 20], [35, 120]])
    owner = owners(canvas_of(40, 60, 7.0), coords, 100.0)
    y, x = np.mgrid[:40, :60]
    centre_x, centre_y = (x + 0.5) * 7, (y + 0.5) * 7
    expected = np.full((40, 60), -1)
    for index, (left, top) in enumerate(coords):
        inside = (centre_x >= left) & (centre_x < left + 100) & (centre_y >= top) & (centre_y < top + 100)
        expected[inside] = index
    assert (owner == expected).all()


def test_neighbours_leave_no_gap_at_any_scale():
    side = 37
    coords = np.stack(np.meshgrid(np.arange(9) * side, np.arange(9) * side), axis=-1).reshape(-1, 2)
    for scale in (1.0, 3.3, 8.01, 16.0):
        pixels = int(9 * side / scale)
        assert (owners(canvas_of(pixels, pixels, scale), coords, side) >= 0).all()


def test_a_patch_below_a_pixel_gets_one():
    owner = owners(canvas_of(10, 10, 100.0), np.array([[430, 610]]), 5.0)
    assert (owner == 0).sum() == 1


def test_patches_over_the_rim_are_cut():
    owner = owners(canvas_of(10, 10, 10.0), np.array([[-50, -50], [80, 80]]), 100.0)
    assert owner[4, 4] == 0
    assert owner[5, 5] == -1
    assert owner[9, 9] == 1


@pytest.mark.parametrize("max_px", [100, 300, 1200])
def test_a_slides_picture_is_in_register_with_its_patches(sample, max_px):
    with_slide = slide_canvas(open_slide(sample.slide), max_px=max_px)
    assert max(with_slide.picture.shape) == max_px
    owner = owners(with_slide, sample.features.coords, 100.0)
    black = with_slide.picture.max(axis=2) < 100
    mismatch = black ^ (owner == sample.black_patch)
    ring = 4 * (100 / with_slide.pixel_level0 + 1)
    assert mismatch.sum() <= ring


def test_pictures_grow_where_patches_would_be_too_small_to_see(sample):
    assert max(slide_canvas(open_slide(sample.slide), max_px=100, patch_size_level0=20).picture.shape) == 360


@pytest.mark.parametrize(("columns", "rows", "size"), [(8, 1, (1500, 450)), (1, 8, (300, 1000)), (4, 3, (300, 250))])
def test_pictures_of_long_slides_are_longer(columns, rows, size):
    coords = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * 100
    picture = blank_canvas(coords, 100, max_px=size[0] if columns < 8 else 500).picture
    assert picture.shape[1::-1] == pytest.approx(size, abs=60)


def test_a_blank_canvas_holds_all_patches():
    coords = np.array([[50_000, 90_000], [50_256, 90_256], [51_280, 90_000]])
    blank = blank_canvas(coords, 256, max_px=400)
    owner = owners(blank, coords, 256)
    assert set(np.unique(owner)) == {-1, 0, 1, 2}
    assert (blank.picture[owner >= 0] < 255).all()
    assert (blank.picture[owner < 0] == 255).all()
    assert max(blank.picture.shape) == 400


@pytest.mark.parametrize(
    ("width", "pixel_level0", "spacing_um", "label", "share"),
    [
        (1000, 4.0, 0.5, "500 µm", 0.25),
        (1000, 40.0, 0.25, "2 mm", 0.2),
        (1000, 4.0, None, "1000 px (level 0)", 0.25),
        (743, 3.0, 0.499, "200 µm", 200 / (743 * 3 * 0.499)),
    ],
)
def test_scale_bars_are_round_and_right(width, pixel_level0, spacing_um, label, share):
    bar = scale_bar(canvas_of(10, width, pixel_level0, spacing_um=spacing_um))
    assert bar.label == label
    assert bar.share == pytest.approx(share)
