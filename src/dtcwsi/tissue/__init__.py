"""A slide's overview to the outlines of its tissue."""

from dtcwsi.tissue.given import TISSUE_SUFFIXES, given_tissue
from dtcwsi.tissue.hsv import TissueParameters, segment_tissue
from dtcwsi.tissue.overlay import draw_overlay

__all__ = ["TISSUE_SUFFIXES", "TissueParameters", "draw_overlay", "given_tissue", "segment_tissue"]
