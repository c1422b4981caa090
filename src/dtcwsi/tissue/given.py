"""Tissue that another tool or a person has outlined: a GeoJSON or a picture of the whole slide, instead of ours."""

import shapely

from dtcwsi.store.outlines import GEOJSON_SUFFIXES, OutlineFile, read_outlines
from dtcwsi.tissue.mask_picture import read_mask
from dtcwsi.types import SlideInfo, TissueMask

__all__ = ["TISSUE_SUFFIXES", "given_tissue"]

TISSUE_SUFFIXES = (*GEOJSON_SUFFIXES, ".png", ".tif", ".tiff")


def given_tissue(file: OutlineFile, info: SlideInfo) -> TissueMask:
    """Read a slide's tissue from a file: every polygon of a GeoJSON, or the non-zero pixels of a picture.

    What several polygons share counts once in the area, and a ring that crosses itself encloses what it goes round
    once, as patches see it.
    Raises: SlideError if the file cannot be read or does not fit the slide.
    """
    if file.path.suffix not in GEOJSON_SUFFIXES:
        return read_mask(file, info)
    polygons = [outline.polygon for outline in read_outlines(file, info)]
    shapes = shapely.make_valid([shapely.Polygon(piece.outer, piece.holes) for piece in polygons])
    largest_first = sorted(range(len(polygons)), key=lambda number: -float(shapes[number].area))
    area = float(shapely.union_all(shapes).area)
    return TissueMask(tuple(polygons[n] for n in largest_first), area * info.spacing_um**2, may_overlap=True)
