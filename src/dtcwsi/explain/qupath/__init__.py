"""A slide's patches and outlines as QuPath reads them."""

from dtcwsi.explain.qupath.outlines import MOST_GROUPS, write_outlines_geojson
from dtcwsi.explain.qupath.patches import write_patches_geojson

__all__ = ["MOST_GROUPS", "write_outlines_geojson", "write_patches_geojson"]
