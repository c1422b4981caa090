import pytest

from dtcwsi.errors import SpacingError
from dtcwsi.slides import open_slide
from dtcwsi.slides.spacing import resolve_spacing


def test_recorded_stands_unless_overridden():
    assert resolve_spacing("a", (0.25, 0.252), None, override=False) == pytest.approx(0.251)
    assert resolve_spacing("a", (0.25, 0.25), 0.5, override=False) == 0.25
    assert resolve_spacing("a", (0.25, 0.25), 0.5, override=True) == 0.5


@pytest.mark.parametrize("recorded", [None, (352.8, 352.8), (0.0, 0.0), (float("nan"),) * 2, (0.25, 0.5)])
def test_given_stands_in_for_what_cannot_be_true(recorded):
    assert resolve_spacing("a", recorded, 0.5, override=False) == 0.5


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        (None, "'a.svs' records no um/px; pass --spacing or add a spacing_um column to the cohort table"),
        ((352.8, 352.8), "'a.svs' records 352.8 um/px; expected 0.05 to 20; pass --spacing"),
        ((0.25, 0.5), "'a.svs' records 0.25 um/px across and 0.5 down; expected square pixels; pass --spacing"),
    ],
)
def test_refusals(recorded, problem):
    with pytest.raises(SpacingError, match=problem):
        resolve_spacing("a.svs", recorded, None, override=False)


@pytest.mark.parametrize("given", [0.0, -1.0, 500.0, float("nan"), float("inf")])
def test_a_given_spacing_that_cannot_be_true_is_refused(given):
    with pytest.raises(SpacingError, match=r"was given .* um/px; expected 0.05 to 20: correct the spacing"):
        resolve_spacing("a.svs", (0.25, 0.25), given, override=False)


def test_a_slide_file_without_resolution(write_slide, tissue_picture, tmp_path):
    path = write_slide(tmp_path / "a.tif", tissue_picture(512, []), spacing_um=None)
    with pytest.raises(SpacingError, match="'a.tif' records no um/px; pass --spacing"):
        open_slide(path)
    assert open_slide(path, spacing_um=0.25).info.spacing_um == 0.25


def test_a_slide_file_with_a_resolution_of_print(write_slide, tissue_picture, tmp_path):
    path = write_slide(tmp_path / "a.tif", tissue_picture(512, []), spacing_um=25_400 / 72)
    with pytest.raises(SpacingError, match=r"'a.tif' records 352.778 um/px; expected 0.05 to 20"):
        open_slide(path)


def test_override_of_a_slide_file(make_slide):
    path = make_slide("a.tif")
    assert open_slide(path, spacing_um=0.3).info.spacing_um == 0.5
    assert open_slide(path, spacing_um=0.3, override=True).info.spacing_um == 0.3
