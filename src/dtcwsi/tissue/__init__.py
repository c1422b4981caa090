"""A slide's overview to the outlines of its tissue."""

from dtcwsi.tissue.hsv import TissueParameters, segment_tissue
from dtcwsi.tissue.overlay import draw_overlay

__all__ = ["TissueParameters", "draw_overlay", "segment_tissue"]
