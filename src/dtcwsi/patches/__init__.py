"""Tissue outlines to the patches inside them."""

from dtcwsi.patches.grid import GridParameters, make_grid

__all__ = ["GridParameters", "make_grid"]
