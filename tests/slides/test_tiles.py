from contextlib import closing

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile

from dtcwsi.errors import SlideError
from dtcwsi.slides import blocks, open_slide
from dtcwsi.slides.openslide import OpenSlideReader
from dtcwsi.slides.tiff import TiffReader
from dtcwsi.slides.tiles import TiledPages, decodes_straight

APERIO = "Aperio Image Library v11.2.1\n1000x900 [0,0 1000x900] (240x240) J2K/KDU Q=70|AppMag = 20|MPP = 0.5"
KINDS = {
    "ycbcr": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "rgb in jpeg": {"compression": "jpeg", "photometric": "rgb", "compressionargs": {"outcolorspace": "rgb"}},
    "jpeg 2000": {
        "compression": "APERIO_JP2000_RGB",
        "photometric": "rgb",
        "compressionargs": {"level": 40, "codecformat": 0},
        "description": APERIO,
    },
    "deflate": {"compression": "zlib", "photometric": "rgb"},
}


@pytest.fixture(scope="module")
def picture(tissue_picture):
    return tissue_picture(1000, [(450, 430, 420)])[:900]


def write(path, picture, tile=(240, 240), levels=3, **how):
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            small = picture[:: 2**level, :: 2**level]
            kind = {"subfiletype": 1 if level else 0, "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
            tiff.write(small, tile=tile, metadata=None, **kind, **how)
    return path


@pytest.fixture
def decoded(monkeypatch):
    """What is decoded straight, one entry a tile."""
    calls = []
    for name in ("jpeg8_decode", "jpeg2k_decode"):
        genuine = getattr(imagecodecs, name)
        monkeypatch.setattr(
            imagecodecs, name, lambda *given, genuine=genuine, **named: calls.append(1) or genuine(*given, **named)
        )
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_those_of_openslide_at_every_level_and_over_every_edge(picture, tmp_path, kind, decoded):
    path = write(tmp_path / "a.svs", picture, **KINDS[kind])
    slide, reference = open_slide(path), openslide.OpenSlide(str(path))
    assert slide.info.reader == "openslide"
    rng = np.random.default_rng(0)
    for level, scale in enumerate(slide.info.level_downsamples):
        for x, y in [(-100, -60), (960, 880), *rng.integers(-100, 900, (12, 2)).tolist()]:
            side, at = 180, (int(x // 4 * 4), int(y // 4 * 4))
            seen = slide.read(at, (round(side * scale),) * 2, (side, side))
            wanted = np.asarray(reference.read_region(at, level, (side, side)))
            outside = wanted[..., 3] == 0
            np.testing.assert_array_equal(seen[~outside], wanted[~outside][:, :3])
            assert (seen[outside] == 255).all()
    assert bool(decoded) == (kind != "deflate")


def test_a_box_between_the_pixels_of_a_level_is_read_by_openslide(picture, tmp_path, decoded):
    path = write(tmp_path / "a.tif", picture, **KINDS["ycbcr"])
    slide, reference = open_slide(path), openslide.OpenSlide(str(path))
    seen = slide.read((101, 203), (200, 200), (100, 100))
    np.testing.assert_array_equal(seen, np.asarray(reference.read_region((101, 203), 1, (100, 100)).convert("RGB")))
    assert not decoded


def test_a_tile_is_decoded_once_for_the_patches_around_it(picture, tmp_path, decoded):
    slide = open_slide(write(tmp_path / "a.tif", picture, levels=1, **KINDS["ycbcr"]))
    for y in range(0, 900, 100):
        for x in range(0, 1000, 100):
            slide.read((x, y), (100, 100), (100, 100))
    assert len(decoded) == 5 * 4


def test_what_is_kept_of_decoded_tiles_is_bounded(picture, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(blocks, "_CACHE_BYTES", 2 * 240 * 240 * 3)
    with tifffile.TiffFile(write(tmp_path / "a.tif", picture, levels=1, **KINDS["ycbcr"])) as tiff:
        pages = TiledPages(tmp_path / "a.tif", tiff, [tiff.pages[0]])
        for left in (0, 240, 480, 480, 240, 0):
            pages.read(0, left, 0, 240, 240)
    assert len(decoded) == 3 + 1
    assert len(pages._blocks._kept) == 2


def test_a_level_with_missing_tiles_is_left_to_openslide(picture, tmp_path):
    path = write(tmp_path / "a.tif", picture, levels=1, **KINDS["ycbcr"])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        assert decodes_straight(tiff.pages[0])
        counts = list(tiff.pages[0].databytecounts)
        tiff.pages[0].tags["TileByteCounts"].overwrite([0, *counts[1:]])
    with tifffile.TiffFile(path) as tiff:
        assert not decodes_straight(tiff.pages[0])


def test_a_tile_that_cannot_be_decoded_is_named(picture, tmp_path):
    path = write(tmp_path / "a.tif", picture, levels=1, **KINDS["ycbcr"])
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[6]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\0" * 64)
    slide = open_slide(path)
    slide.read((0, 0), (200, 200), (200, 200))
    with pytest.raises(SlideError, match=r"^'a.tif' cannot be decoded in tile 6 \(.+\); the file is damaged"):
        slide.read((250, 250), (100, 100), (100, 100))


@pytest.mark.parametrize("share", [(0.5, 1.0), (0.4, 0.55)])
def test_a_tile_that_is_damaged_within_fails_as_it_does_for_openslide(picture, tmp_path, share):
    path = write(tmp_path / "a.tif", picture, levels=1, **KINDS["ycbcr"])
    with tifffile.TiffFile(path) as tiff:
        start, length = tiff.pages[0].dataoffsets[6], tiff.pages[0].databytecounts[6]
    first, last = (int(part * length) for part in share)
    with path.open("r+b") as file:
        file.seek(start + first)
        file.write(bytes(last - first))
    with pytest.raises(
        SlideError, match=r"^'a.tif' cannot be decoded in the 200 x 200 px of level 0 from .*; the file"
    ):
        open_slide(path).read((250, 250), (200, 200), (200, 200))


@pytest.mark.parametrize("reader", [OpenSlideReader, TiffReader])
def test_a_jpeg_2000_tile_without_an_end_is_refused(picture, tmp_path, reader):
    path = write(tmp_path / "a.svs", picture, levels=1, **KINDS["jpeg 2000"])
    with tifffile.TiffFile(path) as tiff:
        start, length = tiff.pages[0].dataoffsets[6], tiff.pages[0].databytecounts[6]
    with path.open("r+b") as file:
        file.seek(start + length // 2)
        file.write(bytes(length - length // 2))
    with closing(reader(path)) as slide:
        slide.read((0, 0), (200, 200), (200, 200))
        with pytest.raises(SlideError, match=r"^'a.svs' cannot be decoded in tile 6 \(its code stream has no end\)"):
            slide.read((250, 250), (100, 100), (100, 100))


def test_a_writer_that_ends_no_jpeg_2000_tile_is_believed(picture, tmp_path):
    path = write(tmp_path / "a.svs", picture, levels=1, **KINDS["jpeg 2000"])
    with closing(open_slide(path)) as slide:
        whole = slide.read((250, 250), (100, 100), (100, 100))
    with tifffile.TiffFile(path) as tiff:
        ends = [start + length - 2 for start, length in zip(*_stored(tiff.pages[0]), strict=True)]
    with path.open("r+b") as file:
        for end in ends:
            file.seek(end)
            file.write(b"\0\0")
    with closing(open_slide(path)) as slide:
        np.testing.assert_array_equal(slide.read((250, 250), (100, 100), (100, 100)), whole)


def _stored(page):
    return page.dataoffsets, page.databytecounts


def test_a_file_whose_description_tifffile_does_not_understand_is_read_by_openslide(picture, tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", picture, levels=1, **KINDS["ycbcr"])
    wanted = open_slide(path).read((0, 0), (300, 300), (300, 300))
    slide = open_slide(path)

    def confused(*_):
        raise KeyError("DimensionOrder")

    monkeypatch.setattr("dtcwsi.slides.openslide.decodes_straight", confused)
    np.testing.assert_array_equal(slide.read((0, 0), (300, 300), (300, 300)), wanted)
