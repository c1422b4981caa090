import cv2
import numpy as np
import pytest

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import SlideError, SpacingError, UsageError
from dtcwsi.extraction import Extraction, run_extraction
from dtcwsi.patches import GridParameters
from dtcwsi.slides import find_slides, open_slide
from dtcwsi.tissue import TissueParameters


@pytest.fixture
def write(tmp_path, tissue_picture):
    picture = tissue_picture(600, [(300, 280, 220)])

    def call(name, stored=None):
        stored = picture[..., ::-1] if stored is None else stored
        assert cv2.imwrite(str(tmp_path / name), stored)
        return tmp_path / name, picture

    return call


@pytest.mark.parametrize(("name", "most"), [("a.png", 0), ("a.bmp", 0), ("a.jpg", 12)])
def test_a_picture_is_a_slide_of_one_level(write, name, most):
    path, picture = write(name)
    slide = open_slide(path, spacing_um=0.5)
    info = slide.info
    assert (info.reader, info.width_px, info.height_px, info.spacing_um) == ("picture", 600, 600, 0.5)
    box = slide.read((300, 100), (64, 32), (64, 32))
    assert np.abs(box.astype(int) - picture[100:132, 300:364]).mean() <= most
    half = slide.read((300, 100), (64, 32), (32, 16))
    assert np.abs(half.astype(int) - cv2.resize(box, (32, 16), interpolation=cv2.INTER_AREA)).max() <= 1
    slide.close()


def test_outside_a_picture_is_white(write):
    path, picture = write("a.png")
    slide = open_slide(path, spacing_um=0.5)
    box = slide.read((-10, 590), (20, 20), (20, 20))
    np.testing.assert_array_equal(box[:10, 10:], picture[590:600, :10])
    assert (box[:, :10] == 255).all()
    assert (box[10:] == 255).all()
    assert (slide.read((700, 700), (8, 8), (8, 8)) == 255).all()


def test_its_resolution_must_be_given(write):
    path, _ = write("a.png")
    with pytest.raises(SpacingError, match="'a.png' records no um/px; pass --spacing"):
        open_slide(path)


def test_grey_deep_and_transparent_pictures(write):
    grey, _ = write("grey.png", np.full((40, 60), 7, np.uint8))
    assert open_slide(grey, spacing_um=0.5).read((0, 0), (2, 2), (2, 2)).tolist() == [[[7] * 3] * 2] * 2
    deep, _ = write("deep.png", np.full((40, 60, 3), (257, 514, 65535), np.uint16))
    assert open_slide(deep, spacing_um=0.5).read((0, 0), (1, 1), (1, 1)).tolist() == [[[255, 2, 1]]]
    clear = np.zeros((40, 60, 4), np.uint8)
    clear[:, 30:] = (1, 2, 3, 255)
    path, _ = write("clear.png", clear)
    assert open_slide(path, spacing_um=0.5).read((29, 0), (2, 1), (2, 1)).tolist() == [[[255] * 3, [3, 2, 1]]]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_a_picture_that_is_cut_off_is_refused(write, name):
    path, _ = write(name)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SlideError, match=f"'{name}' ends after .* before the picture does: copy it again"):
        open_slide(path, spacing_um=0.5)


def test_pictures_in_a_folder_count_only_without_slides(write, tmp_path, slide_bytes):
    (tmp_path / "thumbnails").mkdir()
    for name in ("b.png", "a.jpg"):
        write(name)
        write(f"thumbnails/{name}")
    assert list(find_slides([tmp_path])) == ["a", "b"]
    (tmp_path / "a.tif").write_bytes(slide_bytes)
    assert list(find_slides([tmp_path])) == ["a"]
    assert list(find_slides([tmp_path, tmp_path / "thumbnails"])) == ["a"]
    assert find_slides([tmp_path])["a"].suffix == ".tif"
    assert list(find_slides([tmp_path, tmp_path / "b.png"])) == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no slide was found"):
        find_slides([tmp_path / "empty"])


def test_pictures_go_the_whole_way_whatever_reads_them(write, tmp_path):
    path, _ = write("a.png")
    made = []
    for workers in (0, 1):
        plan = Extraction(
            tmp_path / str(workers),
            tissue=TissueParameters(min_tissue_um2=1_000),
            grid=GridParameters(64),
            encoder=load_encoder("colour-texture"),
            spacing_um=0.5,
            workers=workers,
        )
        result = run_extraction({"a": path}, plan).results["a"]
        assert result.n_patches > 20
        made.append(result.features_file.read_bytes())
    assert made[0] == made[1]


def test_a_real_tile(shared_data):
    path = sorted((shared_data / "tissue").glob("*/*.jpeg"))[0]
    slide = open_slide(path, spacing_um=0.5)
    assert (slide.info.width_px, slide.info.height_px) == (768, 768)
    assert slide.read((0, 0), (768, 768), (96, 96)).std() > 10
