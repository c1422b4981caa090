"""The overlay TIFF, as the readers of whole slides take it."""

import json

import numpy as np
import openslide
import pytest
import tifffile

from dtcwsi.explain.heatmap.blending import Frame, HeatLayer, blend
from dtcwsi.explain.heatmap.colours import heat_colours, paint_transparent
from dtcwsi.explain.heatmap.overlay import write_overlay

SIZE = (20_000, 9_001)


@pytest.fixture(scope="module")
def layer():
    rng = np.random.default_rng(0)
    heat = rng.random(300)
    heat[::9] = np.nan
    return HeatLayer(rng.integers(0, (19_700, 8_700), (300, 2)), 358.4, heat)


@pytest.fixture(scope="module")
def overlay(layer, tmp_path_factory):
    path = tmp_path_factory.mktemp("overlay") / "S1.overlay.tif"
    write_overlay(path, layer, SIZE, spacing_um=0.25, about={"slide_id": "S1"})
    return path


def test_openslide_reads_every_level_in_register(overlay, layer):
    with openslide.OpenSlide(str(overlay)) as read:
        assert read.properties["openslide.vendor"] == "generic-tiff"
        assert float(read.properties["openslide.mpp-x"]) == pytest.approx(4)
        assert read.level_downsamples == (1, 2, 4, 8)[: read.level_count]
        assert read.level_count == 3
        for level, (width, height) in enumerate(read.level_dimensions):
            seen = np.asarray(read.read_region((0, 0), level, (width, height)))
            expected = paint_transparent(blend(layer, Frame(width, height, 16.0 * 2**level)))
            assert (seen[..., 3] == expected[..., 3]).all()
            opaque = expected[..., 3] == 255
            assert (seen[opaque] == expected[opaque]).all()
    assert width * 16 * 4 - SIZE[0] in range(64)
    assert height * 16 * 4 - SIZE[1] in range(64)


def test_tifffile_reads_what_openslide_reads(overlay):
    with tifffile.TiffFile(overlay) as read:
        levels = read.series[0].levels
        assert [level.shape for level in levels] == [(564, 1252, 4), (282, 626, 4), (141, 313, 4)]
        for number, level in enumerate(levels):
            page = level.pages[0]
            assert page.is_tiled
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            numerator, denominator = page.tags["XResolution"].value
            assert 10_000 * denominator / numerator == pytest.approx(4.0 * 2**number)
            assert page.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
        told = json.loads(levels[0].pages[0].description)
        assert (told["slide_id"], told["pixel_level0"], told["size_level0"]) == ("S1", 16, list(SIZE))


def test_heat_can_be_read_back_from_colours(overlay, layer):
    pixels = tifffile.imread(overlay)
    made = blend(layer, Frame(pixels.shape[1], pixels.shape[0], 16.0))
    opaque = pixels[..., 3] == 255
    step = {tuple(colour): number for number, colour in enumerate(heat_colours().tolist())}
    read = np.array([step[tuple(colour)] for colour in pixels[opaque][::53, :3].tolist()]) / 255
    np.testing.assert_allclose(read, made.heat[opaque][::53], atol=1.01 / 255)


def test_the_same_heat_gives_the_same_bytes_and_unknown_um_no_resolution(layer, overlay, tmp_path):
    write_overlay(tmp_path / "again.tif", layer, SIZE, spacing_um=0.25, about={"slide_id": "S1"})
    assert (tmp_path / "again.tif").read_bytes() == overlay.read_bytes()
    write_overlay(tmp_path / "bare.tif", HeatLayer(np.zeros((0, 2), np.int64), 1.0, np.zeros(0)), (300, 200))
    with openslide.OpenSlide(str(tmp_path / "bare.tif")) as read:
        assert "openslide.mpp-x" not in read.properties
        assert not np.asarray(read.read_region((0, 0), 0, read.dimensions)).any()
