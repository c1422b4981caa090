"""The slide of a feature file is found again, and another is not taken for it."""

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from dtcwsi.errors import SlideError
from dtcwsi.explain.origin import check_size, find_original, read_origin
from dtcwsi.slides import open_slide
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.store.contours import write_contours
from dtcwsi.store.digest import fingerprint
from dtcwsi.store.features import features_writer
from dtcwsi.types import PatchGrid, Polygon, TissueMask

TISSUE = TissueMask((Polygon(np.array([[0.0, 0], [90, 0], [90, 90]])),), area_um2=1.0)


@pytest.fixture
def extracted(tmp_path) -> Path:
    """An extraction of one small slide: the features, which lie beside their tissue."""
    slide = tmp_path / "slides" / "S1.tif"
    write_pyramid(slide, np.full((200, 300, 3), 200, np.uint8), spacing_um=0.5)
    features = tmp_path / "out" / "features" / "test" / "S1.h5"
    grid = PatchGrid(np.zeros((1, 2), np.int64), np.ones(1, np.float32), 90, 90, 0.5)
    told = {
        "slide_fingerprint": fingerprint(slide),
        "slide_spacing_um": 0.5,
        "width_level0": 300,
        "height_level0": 200,
    }
    with features_writer(features, grid, 2, told) as rows:
        rows.append(np.zeros((1, 2), np.float32))
    provenance = {"slide": str(slide), "fingerprint": fingerprint(slide), "spacing_um": 0.5}
    write_contours(tmp_path / "out" / "tissue" / "S1.geojson", TISSUE, provenance)
    return features


def test_features_know_their_slide_and_tissue(extracted, tmp_path):
    origin = read_origin(extracted)
    assert find_original(origin) == tmp_path / "slides" / "S1.tif"
    assert (origin.size_level0, origin.spacing_um) == ((300, 200), 0.5)
    assert len(origin.tissue.polygons) == 1
    check_size(origin, open_slide(find_original(origin)).info)


def test_a_slide_that_has_moved_is_told_and_found_in_its_new_folder(extracted, tmp_path):
    (tmp_path / "slides").rename(tmp_path / "moved")
    origin = read_origin(extracted)
    with pytest.raises(SlideError, match=r"the slide of 'S1' is not at .*/slides/S1.tif any more; name .* --slides"):
        find_original(origin)
    assert find_original(origin, tmp_path / "moved") == tmp_path / "moved" / "S1.tif"
    with pytest.raises(SlideError, match=r"holds no slide 'S1'; expected a file of that name, such as S1.tif"):
        find_original(origin, tmp_path)


def test_another_slide_of_the_same_name_is_not_taken(extracted, tmp_path):
    write_pyramid(tmp_path / "other" / "S1.tif", np.full((200, 300, 3), 90, np.uint8), spacing_um=0.5)
    with pytest.raises(SlideError, match=r"other/S1.tif is another slide than the features of 'S1' were made from"):
        find_original(read_origin(extracted), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "S1.tif", tmp_path / "slides" / "S1.tif")
    with pytest.raises(SlideError, match=r"checksum \w{16}, expected \w{16}.* or extract this one"):
        find_original(read_origin(extracted))


def test_where_no_checksum_is_known_the_size_tells(tmp_path):
    write_pyramid(tmp_path / "S1.tif", np.full((200, 300, 3), 200, np.uint8), spacing_um=0.5)
    grid = PatchGrid(np.zeros((1, 2), np.int64), np.ones(1, np.float32), 90, 90, 0.5)
    with features_writer(tmp_path / "S1.h5", grid, 2, {"width_level0": 400, "height_level0": 200}) as rows:
        rows.append(np.zeros((1, 2), np.float32))
    origin = read_origin(tmp_path / "S1.h5")
    with pytest.raises(SlideError, match="the slide of 'S1' was not recorded; name the folder"):
        find_original(origin)
    path = find_original(origin, tmp_path)
    with pytest.raises(SlideError, match=r"has 300 x 200 pixels, but the features of 'S1' were made .* 400 x 200"):
        check_size(origin, open_slide(path).info)


def test_a_path_noted_as_it_was_typed_is_looked_for_around_the_extraction(extracted, tmp_path):
    told = {"slide": "slides/S1.tif", "fingerprint": fingerprint(tmp_path / "slides" / "S1.tif")}
    write_contours(tmp_path / "out" / "tissue" / "S1.geojson", TISSUE, told)
    assert find_original(read_origin(extracted)) == (tmp_path / "slides" / "S1.tif").resolve()


def test_tissue_of_another_version_of_the_slide_is_none(extracted, tmp_path):
    write_contours(tmp_path / "out" / "tissue" / "S1.geojson", TISSUE, {"slide": "x", "fingerprint": "0" * 16})
    origin = read_origin(extracted)
    assert origin.tissue is origin.path is None


def test_only_the_slide_of_that_very_name_is_taken(extracted, tmp_path):
    folder = tmp_path / "more"
    for name in ("S1.part.tif", "S12.tif", "S1.tif"):
        write_pyramid(folder / name, np.full((200, 300, 3), 90, np.uint8), spacing_um=0.5)
    unknown = replace(read_origin(extracted), fingerprint=None)
    assert find_original(unknown, folder) == folder / "S1.tif"
    (folder / "S1.tif").rename(folder / "S1[2].tif")
    assert find_original(replace(unknown, slide_id="S1[2]"), folder) == folder / "S1[2].tif"
    with pytest.raises(SlideError, match="holds no slide 'S1'"):
        find_original(unknown, folder)
    (folder / "S1.png").write_bytes((tmp_path / "slides" / "S1.tif").read_bytes())
    assert find_original(unknown, folder) == folder / "S1.png"


def test_features_that_lie_in_no_extraction_have_no_slide(extracted):
    with TemporaryDirectory(dir="/") as bare:
        alone = Path(bare) / "S1.h5"
        shutil.copy(extracted, alone)
        origin = read_origin(alone)
    assert (origin.path, origin.tissue, origin.spacing_um) == (None, None, 0.5)
