"""Tissue outlines to the patches inside them."""

from dtcwsi.patches.grid import GridParameters, make_grid
from dtcwsi.patches.regions import Region, RegionChoice, region_of

__all__ = ["GridParameters", "Region", "RegionChoice", "make_grid", "region_of"]
