import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from dtcwsi.errors import SlideError
from dtcwsi.patches import GridParameters, make_grid
from dtcwsi.store.outlines import find_outline
from dtcwsi.tissue import TISSUE_SUFFIXES, given_tissue
from dtcwsi.types import SlideInfo

INFO = SlideInfo("a", Path("a.svs"), 4000, 3201, 0.5, (1.0,), "test")


@pytest.fixture
def read(tmp_path):
    return lambda info=INFO: given_tissue(find_outline(tmp_path, "a", TISSUE_SUFFIXES), info)


def _mask(rows=320, columns=400):
    mask = np.zeros((rows, columns), np.uint8)
    mask[100:200, 50:250] = 1
    mask[120:140, 100:150] = 0
    return mask


def test_a_picture_gives_outlines_along_the_edges_of_its_pixels(tmp_path, read):
    cv2.imwrite(str(tmp_path / "a.png"), _mask())
    found = read()
    (piece,) = found.polygons
    down = 3201 / 320
    assert found.area_um2 == pytest.approx(19_000 * 10 * down * 0.25)
    assert piece.outer.min(axis=0).tolist() == [500, pytest.approx(100 * down)]
    assert piece.outer.max(axis=0).tolist() == [2500, pytest.approx(200 * down)]
    assert piece.holes[0].min(axis=0).tolist() == pytest.approx([1000, 120 * down])
    assert piece.holes[0].max(axis=0).tolist() == pytest.approx([1500, 140 * down])


def test_every_pixel_of_a_random_mask_is_found_again(tmp_path, read):
    """Pieces that touch at corners, holes, single pixels and pixels at the slide's edge."""
    mask = np.random.default_rng(0).random((40, 50)) < 0.45
    cv2.imwrite(str(tmp_path / "a.png"), mask.astype(np.uint8) * 255)
    info = SlideInfo("a", Path("a.svs"), 50 * 32, 40 * 32, 0.5, (1.0,), "test")
    grid = make_grid(info, read(info), GridParameters(32, 0.5, 1.0))
    again = np.zeros_like(mask)
    again[grid.coords[:, 1] // 32, grid.coords[:, 0] // 32] = True
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, mask: cv2.imwrite(str(path / "a.png"), mask.astype(np.uint16) * 300),
        lambda path, mask: cv2.imwrite(str(path / "a.png"), np.stack([mask * 0, mask * 9, mask * 0], axis=-1)),
        lambda path, mask: cv2.imwrite(str(path / "a.png"), np.stack([mask * 0 + 9] * 3 + [mask * 255], axis=-1)),
        lambda path, mask: tifffile.imwrite(path / "a.tif", mask.astype(bool), photometric="minisblack"),
        lambda path, mask: tifffile.imwrite(path / "a.tiff", mask.astype(np.float32)),
        lambda path, mask: tifffile.imwrite(path / "a.tiff", np.stack([mask] * 3, axis=-1), photometric="rgb"),
    ],
)
def test_whatever_is_not_zero_is_tissue(tmp_path, read, write):
    write(tmp_path, _mask())
    assert read().area_um2 == pytest.approx(19_000 * 10 * 3201 / 320 * 0.25)


def test_a_large_mask_is_halved_and_of_a_pyramid_a_level_is_read(tmp_path, read, monkeypatch):
    monkeypatch.setattr("dtcwsi.tissue.mask_picture._MOST_PIXELS", 40_000)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(_mask(), subifds=1)
        tiff.write(_mask()[::2, ::2] * 0, subfiletype=1)
    assert read().area_um2 == 0
    tifffile.imwrite(tmp_path / "a.tif", _mask())
    assert read().area_um2 == pytest.approx(19_000 * 10 * 3201 / 320 * 0.25, rel=0.02)


@pytest.mark.parametrize("shape", [(322, 400), (317, 400), (400, 320), (320, 404)])
def test_a_mask_of_another_shape_is_refused(tmp_path, read, shape):
    cv2.imwrite(str(tmp_path / "a.png"), np.ones(shape, np.uint8))
    if shape == (322, 400):
        assert len(read().polygons) == 1
        return
    with pytest.raises(SlideError, match=r"'a.png' has \d+ x \d+ pixels and its slide 4000 x 3201; expected the same"):
        read()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.geojson"])
def test_a_file_that_cannot_be_decoded_is_refused_in_a_sentence(tmp_path, read, name):
    (tmp_path / name).write_bytes(b"nothing of use")
    with pytest.raises(SlideError, match=rf"'{name}' .*export it again$"):
        read()


def test_a_stack_of_pictures_is_refused(tmp_path, read):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((9, 320, 400), np.uint8), photometric="minisblack")
    with pytest.raises(SlideError, match="expected one picture of at most 4 channels"):
        read()


def test_overlapping_outlines_are_tissue_where_they_overlap(tmp_path, read):
    def box(left, right):
        return {"type": "Polygon", "coordinates": [[[left, 0], [right, 0], [right, 1024], [left, 1024], [left, 0]]]}

    (tmp_path / "a.geojson").write_text(json.dumps([box(0, 1024), box(512, 2048)]))
    found = read()
    assert [piece.outer[:, 0].max() for piece in found.polygons] == [2048, 1024]
    assert found.area_um2 == pytest.approx(2048 * 1024 * 0.25)
    assert len(make_grid(INFO, found, GridParameters(256, 0.5, 1.0))) == 8 * 4


def test_a_ring_that_crosses_itself_has_the_area_that_its_patches_see(tmp_path, read):
    ring = [[0, 0], [2048, 2048], [2048, 0], [0, 2048], [0, 0]]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    found = read()
    assert found.area_um2 == pytest.approx(2048 * 1024 * 0.25)
    assert make_grid(INFO, found, GridParameters(32, 0.5, 0.5)).tissue_fraction.sum() == pytest.approx(2048, rel=0.05)


def _indexed(path, mask, colours, alphas=None):
    picture = Image.fromarray(mask)
    picture.putpalette(colours)
    picture.save(path / "a.png", **({} if alphas is None else {"transparency": bytes(alphas)}))


@pytest.mark.parametrize(
    ("colours", "alphas"),
    [
        ([255, 255, 255, 200, 0, 0], None),  # QuPath's labels on white
        ([0, 0, 0, 200, 0, 0], None),
        ([255, 255, 255, 200, 0, 0], [0, 255]),
        ([200, 0, 0, 200, 0, 0], None),
    ],
)
def test_of_an_indexed_picture_the_index_counts(tmp_path, read, colours, alphas):
    _indexed(tmp_path, _mask(), colours, alphas)
    assert read().area_um2 == pytest.approx(19_000 * 10 * 3201 / 320 * 0.25)


@pytest.mark.parametrize(
    ("colours", "alphas"), [([255, 255, 255, 0, 0, 0], None), ([255, 255, 255, 200, 0, 0], [255, 0])]
)
def test_an_indexed_picture_whose_colours_say_the_opposite_is_refused(tmp_path, read, colours, alphas):
    _indexed(tmp_path, _mask(), colours, alphas)
    with pytest.raises(SlideError, match=r"'a.png' is an indexed picture whose .*save it in grey levels$"):
        read()


def test_a_shape_in_transparency_alone_is_refused(tmp_path, read):
    mask = _mask()
    cv2.imwrite(str(tmp_path / "a.png"), np.stack([mask * 0] * 3 + [mask * 255], axis=-1))
    with pytest.raises(SlideError, match="is black wherever it is not transparent; expected a colour, such as white"):
        read()


def test_a_mask_is_read_by_its_content_whatever_it_is_called(tmp_path, read):
    Image.new("L", (400, 320), 255).save(tmp_path / "a.png", format="JPEG", quality=90)
    assert (tmp_path / "a.png").read_bytes()[25] == 3  # where a PNG would say that it is indexed
    assert read().area_um2 == pytest.approx(4000 * 3201 * 0.25)
