import numpy as np
import pytest
import tifffile

from dtcwsi.errors import SlideError, SpacingError
from dtcwsi.slides import open_slide
from dtcwsi.slides.sampling import overview


def _write_ome(path, picture, size=0.5, unit="µm", levels=3, **tags):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit, **tags}
    if "PhysicalSizeY" not in tags:
        metadata |= {"PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        options = {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb"}
        tiff.write(picture, subifds=levels - 1, metadata=metadata, **options)
        for level in range(1, levels):
            tiff.write(np.ascontiguousarray(picture[:: 2**level, :: 2**level]), subfiletype=1, **options)
    return path


@pytest.fixture(scope="module")
def picture(tissue_picture):
    return tissue_picture(700, [(350, 350, 260)])


@pytest.mark.parametrize(("size", "unit"), [(0.25, "µm"), (250, "nm"), (0.00025, "mm"), (2500, "Å"), (2.5e-5, "cm")])
def test_ome_tiff_with_levels_in_every_unit(picture, tmp_path, size, unit):
    slide = open_slide(_write_ome(tmp_path / "a.ome.tif", picture, size, unit))
    assert slide.info.reader == "tiff"
    assert slide.info.slide_id == "a.ome"
    assert slide.info.spacing_um == pytest.approx(0.25)
    assert slide.info.level_downsamples == (1.0, 2.0, 4.0)


def test_ome_tiff_pixels_equal_a_whole_read_at_every_level_and_over_tile_edges(picture, tmp_path):
    path = _write_ome(tmp_path / "a.ome.tif", picture)
    slide = open_slide(path)
    for level, page in enumerate(tifffile.TiffFile(path).series[0].levels):
        scale = 2**level
        whole = page.asarray()
        box = slide.read((100 * scale, 60 * scale), (70 * scale, 50 * scale), (70, 50))
        np.testing.assert_array_equal(box, whole[60:110, 100:170])


def test_ome_without_a_size_or_with_a_unit_of_no_length_is_refused(picture, tmp_path):
    path = _write_ome(tmp_path / "a.ome.tif", picture, 0.5, "pixel")
    with pytest.raises(SpacingError, match=r"'a.ome.tif' records no um/px; pass --spacing or add a spacing_um column"):
        open_slide(path)
    assert open_slide(path, spacing_um=0.4).info.spacing_um == 0.4


def test_ome_with_broken_xml_is_a_sentence(picture, tmp_path):
    path = _write_ome(tmp_path / "a.ome.tif", picture)
    path.write_bytes(path.read_bytes().replace(b"</OME>", b"</OMX>"))
    with pytest.raises(SlideError, match=r"^'a.ome.tif' .*$"):
        open_slide(path)


def test_the_largest_image_of_a_file_is_the_slide(picture, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for image, size in ((picture[:64, :64], 5.0), (picture, 0.3)):
            metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size}
            tiff.write(np.ascontiguousarray(image), photometric="rgb", tile=(64, 64), metadata=metadata)
    info = open_slide(tmp_path / "a.ome.tif").info
    assert (info.width_px, info.spacing_um) == (700, pytest.approx(0.3))


@pytest.mark.parametrize("compression", [None, "deflate", "jpeg"])
def test_strips_are_read_where_openslide_cannot(picture, tmp_path, compression):
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture,
        rowsperstrip=64,
        compression=compression,
        photometric="rgb",
        resolution=(5e4, 5e4),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    slide = open_slide(tmp_path / "a.tif")
    assert (slide.info.reader, slide.info.spacing_um) == ("tiff", pytest.approx(0.2))
    box = slide.read((660, 120), (80, 100), (80, 100))
    np.testing.assert_array_equal(box[:, :40], tifffile.imread(tmp_path / "a.tif")[120:220, 660:])
    assert (box[:, 40:] == 255).all()


@pytest.mark.parametrize(
    ("picture", "photometric", "got"),
    [
        (np.zeros((300, 300), np.uint8), "minisblack", "uint8 with 1 channel"),
        (np.zeros((300, 300, 3), np.uint16), "rgb", "uint16 with 3 channels"),
        (np.zeros((300, 300, 4), np.uint8), "separated", "uint8 with 4 channels"),
    ],
)
def test_pixels_that_are_no_8_bit_rgb_are_refused(tmp_path, picture, photometric, got):
    tifffile.imwrite(tmp_path / "a.ome.tif", picture, photometric=photometric, metadata=None, ome=False)
    with pytest.raises(SlideError, match=f"holds {got} a pixel; expected interleaved 8-bit RGB: convert it"):
        open_slide(tmp_path / "a.ome.tif", spacing_um=0.5)


def test_a_file_cut_off_within_its_tiles_is_refused_before_it_is_read(picture, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, rowsperstrip=64, photometric="rgb", resolution=(2e4, 2e4), resolutionunit=3)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(
        SlideError, match=r"ends after .* bytes; expected at least .*: the file is cut off, copy it again"
    ):
        open_slide(path)


def test_a_file_cut_off_before_a_page_is_refused(picture, tmp_path):
    """As scanners write: pixels first, the page's description after them."""
    path = tmp_path / "a.svs"
    path.write_bytes(b"II*\0" + (5000).to_bytes(4, "little") + bytes(600))
    with pytest.raises(
        SlideError, match=r"^'a.svs' ends after 608 bytes; expected at least 5,002: the file is cut off"
    ):
        open_slide(path)
    for part in (picture, picture[::2, ::2]):
        tifffile.imwrite(path, part, append=part is not picture, photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        second = tiff.pages[1].offset
    path.write_bytes(path.read_bytes()[:second])
    with pytest.raises(SlideError, match=rf"expected at least {second + 2:,}: the file is cut off"):
        open_slide(path, spacing_um=0.5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_real_slide_that_was_cut_off_is_told_so(shared_data, tmp_path, share):
    whole = (shared_data / "slides" / "CMU-1-Small-Region.svs").read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SlideError, match="the file is cut off, copy it again$"):
        open_slide(tmp_path / "cut.svs")


def test_overview_of_an_ome_pyramid_equals_its_smallest_level(picture, tmp_path):
    path = _write_ome(tmp_path / "a.ome.tif", picture)
    seen, scale = overview(open_slide(path), 2.0)
    assert (seen.shape, scale) == ((175, 175, 3), 4.0)
    np.testing.assert_array_equal(seen, tifffile.TiffFile(path).series[0].levels[2].asarray())
