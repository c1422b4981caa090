from pathlib import Path

import numpy as np

from dtcwsi.patches import GridParameters, RegionChoice, make_grid, region_of
from dtcwsi.store.outlines import Outline
from dtcwsi.types import Polygon, SlideInfo, TissueMask

INFO = SlideInfo("a", Path("a.svs"), 2048, 2048, 0.5, (1.0,), "test")


def _box(x0, y0, x1, y1):
    return Polygon(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float))


TISSUE = TissueMask((_box(0, 0, 1024, 2048),), 1.0)
OUTLINES = (
    Outline(_box(512, 0, 2048, 512), ("Tumor",)),
    Outline(_box(0, 1024, 2048, 1536), ("Stroma",)),
    Outline(_box(512, 256, 768, 1280), ("Artefact",)),
    Outline(_box(0, 1792, 256, 2048)),
)


def _cells(*classes, without=()):
    region = region_of(OUTLINES, RegionChoice(Path(), classes, without))
    grid = make_grid(INFO, TISSUE, GridParameters(256, 0.5, 0.6), region)
    return {(x // 256, y // 256) for x, y in grid.coords.tolist()}


TUMOR = {(2, 0), (3, 0), (2, 1), (3, 1)}
STROMA = {(x, y) for x in range(4) for y in (4, 5)}


def test_patches_lie_where_tissue_and_region_overlap():
    assert _cells("Tumor") == TUMOR
    assert _cells("Tumor", "stroma") == TUMOR | STROMA
    assert _cells("Necrosis") == set()


def test_without_classes_any_outline_counts():
    assert _cells() == TUMOR | STROMA | {(2, 1), (2, 2), (2, 3), (2, 4)} | {(0, 7)}


def test_classes_left_out_are_cut_from_those_chosen_or_from_the_slide():
    artefact = {(2, y) for y in range(1, 5)}
    assert _cells("Tumor", "Stroma", without=("Artefact",)) == (TUMOR | STROMA) - artefact
    assert _cells(without=("artefact",)) == {(x, y) for x in range(4) for y in range(8)} - artefact


def test_the_share_of_tissue_is_that_inside_the_region():
    region = region_of([Outline(_box(0, 0, 160, 2048))], RegionChoice(Path()))
    grid = make_grid(INFO, TISSUE, GridParameters(256, 0.5, 0.6), region)
    assert set(grid.coords[:, 0]) == {0}
    np.testing.assert_allclose(grid.tissue_fraction, 5 / 8)
