"""Tissue outlines to the patches inside them."""

from dtcwsi.patches.grid import GridParameters, make_grid
from dtcwsi.patches.quality import QualityParameters, good_enough, measured_at, quality_scores
from dtcwsi.patches.regions import Region, RegionChoice, region_of

__all__ = [
    "GridParameters",
    "QualityParameters",
    "Region",
    "RegionChoice",
    "good_enough",
    "make_grid",
    "measured_at",
    "quality_scores",
    "region_of",
]
