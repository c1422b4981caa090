import numpy as np
import pytest

from dtcwsi.slides import open_slide
from dtcwsi.slides.sampling import best_level, overview, sample


@pytest.mark.parametrize(
    ("wanted", "level"),
    [(0.5, 0), (1.0, 0), (1.99, 1), (2.0, 1), (3.9, 1), (4.0, 2), (15.8, 2), (15.9, 3), (17, 3), (99, 3)],
)
def test_the_coarsest_level_that_is_fine_enough_whatever_the_numbering(wanted, level):
    assert best_level((1.0, 2.0002, 4.001, 16.003), wanted) == level


def test_levels_out_of_order_are_told_by_their_downsample():
    assert best_level((1.0, 16.0, 4.0), 5.0) == 2


def test_shrinking_averages_so_that_a_fine_checkerboard_turns_grey():
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    picture = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)

    def read_level(level, corner, size):
        return picture[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]]

    small = sample(read_level, (1.0,), (0, 0), (250, 250), (100, 100))
    assert small.shape == (100, 100, 3)
    assert abs(small.astype(int) - 127).max() <= 40
    assert sample(read_level, (1.0,), (0, 0), (256, 256), (64, 64)).std() == 0


def test_a_box_lands_where_it_should_whatever_the_resolution(write_slide, tmp_path):
    ramp = np.zeros((1024, 1024, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(1024) // 4, np.arange(1024)[:, None] // 4
    ramp[..., 2] = 128
    slide = open_slide(write_slide(tmp_path / "a.tif", ramp))
    for size in (512, 300, 256, 100, 64):
        box = slide.read((256, 400), (512, 512), (size, size)).astype(float)
        centres = (np.arange(size) + 0.5) * 512 / size
        assert abs(box[..., 0] - (256 + centres) / 4).mean() < 2
        assert abs(box[..., 1] - (400 + centres)[:, None] / 4).mean() < 2


@pytest.mark.parametrize("levels", [1, 3])
def test_overview_is_the_area_average_of_the_slide(write_slide, tissue_picture, tmp_path, levels):
    import cv2

    picture = tissue_picture(2300, [(900, 1200, 700)])
    slide = open_slide(write_slide(tmp_path / "a.tif", picture, levels=levels))
    seen, scale = overview(slide, 4.0)
    assert scale == 8.0
    expected = cv2.resize(picture, (seen.shape[1], seen.shape[0]), interpolation=cv2.INTER_AREA)
    assert seen.shape[:2] == (288, 288)
    assert np.abs(seen.astype(int) - expected).mean() < 2


def test_overview_stays_below_its_pixel_budget_and_never_enlarges(make_slide):
    slide = open_slide(make_slide("a.tif"))
    seen, scale = overview(slide, 0.5, max_pixels=10_000)
    assert seen.shape[0] * seen.shape[1] <= 10_300
    assert scale == pytest.approx(10.24)
    assert overview(slide, 0.01)[1] == 1.0
