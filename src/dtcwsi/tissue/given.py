"""Tissue that another tool or a person has outlined: a GeoJSON or a picture of the whole slide, instead of ours."""

import numpy as np
from numpy.typing import NDArray

from dtcwsi.store.outlines import GEOJSON_SUFFIXES, OutlineFile, read_outlines
from dtcwsi.tissue.mask_picture import read_mask
from dtcwsi.types import Polygon, SlideInfo, TissueMask

__all__ = ["TISSUE_SUFFIXES", "given_tissue"]

TISSUE_SUFFIXES = (*GEOJSON_SUFFIXES, ".png", ".tif", ".tiff")


def given_tissue(file: OutlineFile, info: SlideInfo) -> TissueMask:
    """Read a slide's tissue from a file: every polygon of a GeoJSON, or the non-zero pixels of a picture.

    The area is that of the polygons, so that what two of them share counts twice.
    Raises: SlideError if the file cannot be read or does not fit the slide.
    """
    if file.path.suffix not in GEOJSON_SUFFIXES:
        return read_mask(file, info)
    polygons = tuple(outline.polygon for outline in read_outlines(file, info))
    polygons = tuple(sorted(polygons, key=lambda piece: -_area(piece)))
    return TissueMask(polygons, sum(map(_area, polygons)) * info.spacing_um**2, may_overlap=True)


def _area(piece: Polygon) -> float:
    """Level-0 pixels inside a polygon, by the shoelace formula."""
    outer, *holes = (_enclosed(ring) for ring in (piece.outer, *piece.holes))
    return outer - sum(holes)


def _enclosed(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2
