from pathlib import Path

import numpy as np
import pytest

from dtcwsi.errors import OptionError, SpacingError
from dtcwsi.patches import GridParameters, make_grid
from dtcwsi.types import Polygon, SlideInfo, TissueMask


def _info(width=8192, height=8192, spacing=0.5):
    return SlideInfo("a", Path("a.svs"), width, height, spacing, (1.0,), "openslide")


def _box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def _mask(outer, *holes):
    return TissueMask((Polygon(outer, tuple(holes)),), 1.0)


def test_only_patches_inside_the_contour():
    grid = make_grid(_info(), _mask(_box(512, 1024, 2048, 1536)), GridParameters(min_tissue_fraction=0.9))
    assert sorted(map(tuple, grid.coords.tolist())) == [(x, y) for x in range(512, 2048, 256) for y in (1024, 1280)]
    assert grid.tissue_fraction.min() == 1.0
    assert (grid.patch_size_level0, grid.patch_size_px, grid.spacing_um) == (256, 256, 0.5)


@pytest.mark.parametrize(("least", "count"), [(0.2, 4), (0.3, 3), (0.6, 2), (0.9, 1)])
def test_the_least_tissue_fraction(least, count):
    """Four patches in a row that tissue covers to 100, 75, 50 and 25 %."""
    rings = [_box(i * 256, 0, (i + 1) * 256, 256 * (1 - i / 4)) for i in range(4)]
    mask = TissueMask(tuple(Polygon(ring) for ring in rings), 1.0)
    grid = make_grid(_info(1024, 256), mask, GridParameters(min_tissue_fraction=least))
    assert len(grid) == count


def test_the_fraction_follows_the_area_of_a_disc():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    disc = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 3000 + 4096
    grid = make_grid(_info(), _mask(disc), GridParameters(min_tissue_fraction=0.01))
    assert grid.tissue_fraction.sum() * 256**2 == pytest.approx(np.pi * 3000**2, rel=0.03)


def test_holes_are_left_out():
    grid = make_grid(_info(), _mask(_box(0, 0, 4096, 4096), _box(1024, 1024, 2048, 2048)), GridParameters())
    hole = ((grid.coords >= 1024) & (grid.coords < 2048)).all(axis=1)
    assert (len(grid), hole.sum()) == (256 - 16, 0)


def test_neighbours_in_order_are_neighbours_on_the_slide():
    grid = make_grid(_info(), _mask(_box(0, 0, 8192, 8192)), GridParameters())
    assert len(grid) == 32 * 32
    assert (np.abs(np.diff(grid.coords, axis=0)).sum(axis=1) == 256).all()


def test_edited_tissue_never_shifts_the_grid():
    small, large = (
        make_grid(_info(), _mask(_box(*box)), GridParameters())
        for box in ((1000, 1100, 3000, 3100), (300, 400, 5000, 6000))
    )
    assert set(map(tuple, small.coords.tolist())) < set(map(tuple, large.coords.tolist()))


@pytest.mark.parametrize(
    ("spacing", "size", "level0"), [(0.25, 256, 512), (0.5, 128, 128), (0.499, 256, 257), (0.6, 256, 213)]
)
def test_a_patch_covers_the_same_microns_on_every_slide(spacing, size, level0):
    grid = make_grid(_info(spacing=spacing), _mask(_box(0, 0, 4096, 4096)), GridParameters(patch_size_px=size))
    assert grid.patch_size_level0 == level0
    assert level0 * spacing == pytest.approx(size * 0.5, abs=spacing / 2)


def test_a_slide_too_coarse_is_refused_with_the_remedy():
    with pytest.raises(
        SpacingError, match=r"'a.svs' has 1 um/px, too coarse for patches of 0.5 .*--patch-spacing of at least 1"
    ):
        make_grid(_info(spacing=1.0), _mask(_box(0, 0, 4096, 4096)), GridParameters())


def test_no_tissue_and_a_slide_smaller_than_a_patch_give_no_patches():
    assert len(make_grid(_info(), TissueMask((), 0.0), GridParameters())) == 0
    grid = make_grid(_info(200, 200), _mask(_box(0, 0, 200, 200)), GridParameters())
    assert grid.coords.shape == (0, 2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"patch_size_px": 4}, "patch_size_px is 4; expected at least 8"),
        ({"patch_spacing_um": 0}, "patch_spacing_um is 0; expected 0.05 to 20"),
        ({"min_tissue_fraction": 0}, "min_tissue_fraction is 0; expected more than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, message):
    with pytest.raises(OptionError, match=message):
        GridParameters(**option)
