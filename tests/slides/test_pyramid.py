import os

import cv2
import numpy as np
import openslide
import pytest
import tifffile

from dtcwsi.slides.pyramid import write_pyramid


@pytest.fixture(scope="module")
def picture():
    """Smooth colours of an odd size, so that JPEG keeps them and edges have to be padded."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return cv2.resize(coarse, (1101, 903), interpolation=cv2.INTER_CUBIC)


def region(slide, level):
    return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"), dtype=int)


def test_openslide_reports_the_spacing(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, spacing_um=0.46)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.46)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.46)


def test_every_level_records_its_own_resolution(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, spacing_um=0.5)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        per_cm = [page.tags["XResolution"].value for page in tiff.pages]
        assert {int(page.tags["ResolutionUnit"].value) for page in tiff.pages} == {3}
    spacing_um = [1e4 * below / above for above, below in per_cm]
    assert spacing_um == pytest.approx([0.5, 1.0, 2.0], rel=0.01)


def test_levels_halve_and_show_the_picture(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, spacing_um=0.5)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions == ((1101, 903), (550, 451), (275, 225))
        assert slide.level_downsamples == pytest.approx((1.0, 2.0, 4.0), rel=0.01)
        for level in range(3):
            seen = region(slide, level)
            expected = cv2.resize(picture, slide.level_dimensions[level], interpolation=cv2.INTER_AREA)
            assert np.abs(seen - expected).mean() < 2.5


def test_the_bottom_row_and_the_right_column_are_the_pictures(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, spacing_um=0.5)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        seen = region(slide, 0)
    assert np.abs(seen[-1] - picture[-1]).mean() < 4
    assert np.abs(seen[:, -1] - picture[:, -1]).mean() < 4


@pytest.mark.parametrize("shape", [(40, 700), (300, 300), (1000, 300)])
def test_small_pictures_still_have_three_levels(tmp_path, shape):
    write_pyramid(tmp_path / "a.tif", np.full((*shape, 3), 90, np.uint8), spacing_um=0.5)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_count == 3
        for level in range(3):
            assert np.abs(region(slide, level) - 90).max() <= 2


def test_more_levels_on_request(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, spacing_um=0.5, levels=6, tile_px=128)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.level_dimensions[-1] == (34, 28)
        assert slide.properties["openslide.level[0].tile-width"] == "128"


def test_equal_pixels_give_equal_bytes(tmp_path, picture):
    for name in ("a.tif", "b.tif"):
        write_pyramid(tmp_path / name, picture, spacing_um=0.5, description="a note")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages.first.description == "a note"


class LazyPicture:
    """Computes what it is asked for and remembers how much that was."""

    shape = (5000, 1500, 3)

    def __init__(self):
        self.most_rows = 0
        self.rows_read = 0

    def __getitem__(self, rows_columns):
        rows, columns = rows_columns
        y, x = np.mgrid[rows, columns]
        self.most_rows = max(self.most_rows, len(y))
        self.rows_read += len(y)
        return np.stack([y // 20, x // 6, (x + y) // 26], axis=2).astype(np.uint8)


def test_a_lazy_source_is_read_once_and_in_strips(tmp_path):
    source = LazyPicture()
    write_pyramid(tmp_path / "a.tif", source, spacing_um=0.5)
    assert source.most_rows <= 256
    assert source.rows_read == 5000
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        corner = np.asarray(slide.read_region((1000, 4000), 0, (400, 900)).convert("RGB"), dtype=int)
        assert np.abs(corner - source[4000:4900, 1000:1400]).mean() < 1.5


class Torn(LazyPicture):
    def __getitem__(self, rows_columns):
        if rows_columns[0].start > 1000:
            raise OSError("torn")
        return super().__getitem__(rows_columns)


def test_nothing_is_left_of_a_write_that_fails(tmp_path, picture):
    write_pyramid(tmp_path / "a.tif", picture, spacing_um=0.5)
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(Exception, match="torn"):
        write_pyramid(tmp_path / "a.tif", Torn(), spacing_um=0.5)
    assert os.listdir(tmp_path) == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((64, 64), np.uint8), {}, r"shape \(64, 64\), expected \(height, width, 3\)"),
        (np.zeros((64, 64, 3), np.float32), {}, "float32, expected uint8"),
        (np.zeros((64, 64, 3), np.uint8), {"spacing_um": 0.0}, "spacing is 0.0 um/px"),
        (np.zeros((64, 64, 3), np.uint8), {"tile_px": 100}, "multiple of 16"),
        (np.zeros((64, 64, 3), np.uint8), {"levels": 9}, "9 levels of 64 x 64 px"),
    ],
)
def test_errors_say_what_was_expected(tmp_path, image, options, message):
    with pytest.raises(ValueError, match=message):
        write_pyramid(tmp_path / "a.tif", image, **{"spacing_um": 0.5, **options})
