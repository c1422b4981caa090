import numpy as np
import openslide
import pytest
import tifffile

from dtcwsi.errors import SlideError
from dtcwsi.slides import open_slide


def test_a_real_aperio_slide(shared_data):
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    slide, reference = open_slide(path), openslide.OpenSlide(str(path))
    assert (slide.info.width_px, slide.info.height_px) == (2220, 2967)
    assert slide.info.spacing_um == pytest.approx(0.499)
    assert slide.info.level_downsamples == (1.0,)
    box = np.asarray(reference.read_region((640, 900), 0, (256, 256)).convert("RGB"))
    np.testing.assert_array_equal(slide.read((640, 900), (256, 256), (256, 256)), box)


def test_levels_have_their_real_downsample_and_the_pixels_of_the_level(write_slide, tissue_picture, tmp_path):
    path = write_slide(tmp_path / "a.tif", tissue_picture(1024, [(500, 520, 400)]))
    slide = open_slide(path)
    assert slide.info.reader == "openslide"
    assert slide.info.level_downsamples == (1.0, 2.0, 4.0)
    reference = np.asarray(openslide.OpenSlide(str(path)).read_region((256, 256), 1, (128, 128)).convert("RGB"))
    np.testing.assert_array_equal(slide.read((256, 256), (256, 256), (128, 128)), reference)


def test_a_tiff_of_grey_levels_is_refused_whoever_reads_it(tmp_path, tissue_picture):
    grey, how = (
        tissue_picture(600, [(300, 300, 200)])[..., 1],
        {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"},
    )
    tifffile.imwrite(tmp_path / "a.tif", grey, tile=(256, 256), photometric="minisblack", **how)
    assert openslide.OpenSlide.detect_format(str(tmp_path / "a.tif")) == "generic-tiff"
    with pytest.raises(SlideError, match="'a.tif' holds uint8 with 1 channel a pixel; expected interleaved 8-bit RGB"):
        open_slide(tmp_path / "a.tif")


def test_outside_the_slide_it_is_white(write_slide, tissue_picture, tmp_path):
    path = write_slide(tmp_path / "a.tif", tissue_picture(1000, [(500, 500, 600)]))
    box = open_slide(path).read((900, 900), (200, 200), (200, 200))
    assert (box[:, 110:] == 255).all()
    assert box[:90, :90].mean() < 240
