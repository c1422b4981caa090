from pathlib import Path

import cv2
import numpy as np
import pytest

from dtcwsi.errors import OptionError
from dtcwsi.patches import GridParameters, QualityParameters, good_enough, make_grid, measured_at, quality_scores
from dtcwsi.types import Polygon, SlideInfo, TissueMask

RNG = np.random.default_rng(0)
GLASS = (241, 240, 242)
BLUE, GREEN, BLACK = (0.25, 0.42, 0.86), (0.20, 0.62, 0.36), (0.20, 0.20, 0.24)


def _tissue(colour=(200, 120, 170), side=128):
    grain = RNG.normal(0, 12, (side, side, 1))
    return np.clip(np.array(colour) + grain, 0, 255).astype(np.uint8)


def _inked(picture, ink, width=40):
    picture = picture.astype(float)
    picture[:, :width] *= ink
    return picture.astype(np.uint8)


def _pen(picture, spacing_um=1.0):
    return quality_scores(picture[None], spacing_um)["pen"][0]


@pytest.mark.parametrize("ink", [BLUE, GREEN, BLACK])
def test_ink_on_glass_is_found_to_its_share(ink):
    glass = np.full((128, 128, 3), GLASS, np.uint8)
    assert _pen(glass) == 0
    assert _pen(_inked(glass, ink)) == pytest.approx(40 / 128, abs=0.02)
    assert _pen(_inked(glass, ink)[::2, ::2], 2.0) == pytest.approx(40 / 128, abs=0.04)


def test_the_colours_of_haematoxylin_eosin_and_blood_are_no_ink():
    for colour in ((200, 120, 170), (90, 60, 130), (110, 100, 190), (180, 60, 80), (235, 225, 235), (100, 112, 220)):
        assert _pen(_tissue(colour)) == 0, colour
    assert _pen(_inked(_tissue(), GREEN)) > 0


def test_sharpness_is_the_variance_of_the_laplacian_and_falls_with_blur():
    patch = _tissue()
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(float)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * grey
    assert quality_scores(patch[None], 1.0)["sharpness"][0] == pytest.approx(laplacian.var(), rel=1e-5)
    blurred = [cv2.GaussianBlur(patch, (0, 0), sigma) for sigma in (0.5, 1, 2)]
    values = quality_scores(np.stack([patch, *blurred]), 1.0)["sharpness"]
    assert (np.diff(values) < 0).all()


def test_thresholds_keep_what_reaches_them():
    scores = {"sharpness": np.array([1, 5, 9], np.float32), "pen": np.array([0, 0.5, 0.1], np.float32)}
    assert good_enough(scores, QualityParameters()).tolist() == [True, True, True]
    assert good_enough(scores, QualityParameters(min_sharpness=5)).tolist() == [False, True, True]
    assert good_enough(scores, QualityParameters(max_pen=0.1)).tolist() == [True, False, True]


def test_no_patches_have_no_scores():
    assert {name: len(values) for name, values in quality_scores(np.zeros((0, 8, 8, 3), np.uint8), 1.0).items()} == {
        "sharpness": 0,
        "pen": 0,
    }


def test_patches_are_looked_at_whole_at_their_own_um():
    box = Polygon(np.array([(0, 0), (2048, 0), (2048, 2048), (0, 2048)], float))
    info = SlideInfo("a", Path("a.svs"), 2048, 2048, 0.25, (1.0,), "test")
    grid = make_grid(info, TissueMask((box,), 1.0), GridParameters(256, 0.5))
    seen = measured_at(grid, QualityParameters(spacing_um=1.0))
    assert (seen.patch_size_px, seen.patch_size_level0, seen.spacing_um) == (128, 512, 1.0)
    np.testing.assert_array_equal(seen.coords, grid.coords)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"min_sharpness": -1}, "min_sharpness is -1; expected 0 or more"),
        ({"min_sharpness": float("nan")}, "min_sharpness is nan"),
        ({"max_pen": 1.5}, "max_pen is 1.5; expected a share of pixels, 0 to 1"),
        ({"spacing_um": 0}, "the um/px of quality is 0"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(values, sentence):
    with pytest.raises(OptionError, match=sentence):
        QualityParameters(**values)


@pytest.fixture(scope="module")
def real_tiles(shared_data) -> np.ndarray:
    paths = sorted((shared_data / "tissue").glob("*/*.jpeg"))[::20]
    return np.stack(
        [cv2.resize(cv2.imread(str(path))[..., ::-1], (384, 384), interpolation=cv2.INTER_AREA) for path in paths]
    )


def test_real_tiles_have_no_pen_and_lose_sharpness_by_blur(real_tiles):
    scores = quality_scores(real_tiles, 1.0)
    assert (scores["pen"] <= 0.01).all()
    blurred = quality_scores(np.stack([cv2.GaussianBlur(tile, (0, 0), 2) for tile in real_tiles]), 1.0)
    assert (blurred["sharpness"] < 0.3 * scores["sharpness"]).all()
