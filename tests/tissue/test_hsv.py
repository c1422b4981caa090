import cv2
import numpy as np
import pytest

from dtcwsi.errors import OptionError
from dtcwsi.tissue import TissueParameters, draw_overlay, segment_tissue

PLAIN = TissueParameters(median_um=24, closing_um=0, min_tissue_um2=2_000, min_hole_um2=2_000)


def _glass(side=400):
    return np.full((side, side, 3), (243, 241, 244), np.uint8)


def _pink(picture, centre, radius, colour=(200, 110, 160)):
    return cv2.circle(picture, centre, radius, colour, thickness=-1)


def _disc_um2(radius_px, pixel_um=8.0):
    return np.pi * (radius_px * pixel_um) ** 2


def test_two_discs_have_their_areas_and_places_the_larger_first():
    picture = _pink(_pink(_glass(), (100, 120), 40), (280, 260), 90)
    mask = segment_tissue(picture, 16.0, 0.5, PLAIN)
    assert len(mask.polygons) == 2
    assert mask.area_um2 == pytest.approx(_disc_um2(40) + _disc_um2(90), rel=0.03)
    for piece, (x, y), radius in zip(mask.polygons, [(280, 260), (100, 120)], [90, 40], strict=True):
        centre = (piece.outer.min(axis=0) + piece.outer.max(axis=0)) / 2
        np.testing.assert_allclose(centre, np.array([x + 0.5, y + 0.5]) * 16, atol=8)
        np.testing.assert_allclose(np.ptp(piece.outer, axis=0), 2 * radius * 16, atol=40)


def test_a_finer_picture_gives_the_same_tissue():
    picture = _pink(_glass(), (200, 200), 90)
    finer = cv2.resize(picture, (1600, 1600), interpolation=cv2.INTER_NEAREST)
    coarse, fine = (segment_tissue(p, s, 0.5, PLAIN) for p, s in ((picture, 16.0), (finer, 4.0)))
    assert fine.area_um2 == pytest.approx(coarse.area_um2, rel=0.01)


def test_holes_are_kept_filled_or_limited_by_their_size_and_number():
    picture = _pink(_glass(), (200, 200), 150)
    for centre, radius in (((140, 200), 40), ((250, 200), 20)):
        _pink(picture, centre, radius, (243, 241, 244))
    whole = _disc_um2(150)

    def cut(**changes):
        mask = segment_tissue(picture, 16.0, 0.5, TissueParameters(**{**vars(PLAIN), **changes}))
        return len(mask.polygons[0].holes), mask.area_um2

    assert cut() == (2, pytest.approx(whole - _disc_um2(40) - _disc_um2(20), rel=0.03))
    assert cut(min_hole_um2=_disc_um2(30)) == (1, pytest.approx(whole - _disc_um2(40), rel=0.03))
    assert cut(max_holes=1)[0] == 1
    assert cut(max_holes=0) == (0, pytest.approx(whole, rel=0.03))


def test_tissue_within_a_hole_is_a_piece_of_its_own():
    picture = _pink(_pink(_pink(_glass(), (200, 200), 150), (200, 200), 110, (243, 241, 244)), (200, 200), 50)
    mask = segment_tissue(picture, 16.0, 0.5, PLAIN)
    assert [len(piece.holes) for piece in mask.polygons] == [1, 0]
    assert mask.area_um2 == pytest.approx(_disc_um2(150) - _disc_um2(110) + _disc_um2(50), rel=0.03)


def test_closing_joins_pieces_that_lie_close():
    picture = _glass()
    picture[100:300, 100:195] = picture[100:300, 201:300] = (200, 110, 160)
    apart = segment_tissue(picture, 16.0, 0.5, PLAIN)
    joined = segment_tissue(picture, 16.0, 0.5, TissueParameters(**{**vars(PLAIN), "closing_um": 80}))
    assert (len(apart.polygons), len(joined.polygons)) == (2, 1)


def test_the_median_removes_specks_and_the_smallest_area_removes_crumbs():
    picture = _pink(_pink(_glass(), (200, 200), 90), (50, 50), 8)
    picture[::20, ::20] = (200, 110, 160)
    assert len(segment_tissue(picture, 16.0, 0.5, PLAIN).polygons) == 2
    strict = TissueParameters(**{**vars(PLAIN), "min_tissue_um2": 1.5 * _disc_um2(8)})
    assert len(segment_tissue(picture, 16.0, 0.5, strict).polygons) == 1


def test_the_threshold_is_on_saturation():
    pale = _pink(_glass(), (200, 200), 90, (240, 228, 236))
    saturation = int(cv2.cvtColor(pale, cv2.COLOR_RGB2HSV)[200, 200, 1])
    for threshold, pieces in ((saturation - 1, 1), (saturation, 0)):
        parameters = TissueParameters(**{**vars(PLAIN), "saturation_threshold": threshold})
        assert len(segment_tissue(pale, 16.0, 0.5, parameters).polygons) == pieces


def test_glass_alone_has_no_tissue():
    mask = segment_tissue(_glass(), 16.0, 0.5, TissueParameters())
    assert (mask.polygons, mask.area_um2) == ((), 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seg_spacing_um": 0}, "seg_spacing_um is 0; expected 0.05 to 200 um/px"),
        ({"seg_spacing_um": 1e9, "median_um": 0}, r"seg_spacing_um is 1e\+09; expected 0.05 to 200 um/px"),
        ({"median_um": float("nan")}, "median_um is nan; expected a positive number"),
        ({"min_tissue_um2": -1}, "min_tissue_um2 is -1; expected a positive number"),
        ({"saturation_threshold": 256}, "saturation_threshold is 256; expected 0 to 255"),
        ({"median_um": 3000}, "median_um is 375 pixels wide at 8 um/px; expected at most 200: lower it"),
        ({"closing_um": 1e9}, "closing_um is 125000000 pixels wide at 8 um/px; expected at most 200"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        TissueParameters(**changes)


def test_the_overlay_draws_outlines_green_and_holes_blue_on_a_small_picture():
    picture = _pink(_pink(_glass(), (200, 200), 150), (200, 200), 60, (243, 241, 244))
    drawn = draw_overlay(picture, 16.0, segment_tissue(picture, 16.0, 0.5, PLAIN), max_px=200)
    assert drawn.shape == (200, 200, 3)
    changed = np.abs(drawn.astype(int) - cv2.resize(picture, (200, 200), interpolation=cv2.INTER_AREA)).sum(axis=2) > 90
    rows, columns = np.nonzero(changed)
    distance = np.hypot(rows - 100, columns - 100)
    assert ((abs(distance - 75) < 3) | (abs(distance - 30) < 3)).all()
    assert 1 in drawn[100, 100 - 77 : 100 - 72].argmax(axis=1)
    assert 2 in drawn[100, 100 - 32 : 100 - 28].argmax(axis=1)
    assert picture[200, 60].tolist() == [200, 110, 160]
