"""Heatmaps that lie on their slide to the pixel: pictures, pyramids, one scale for one slide or several."""

from dtcwsi.explain.heatmap.overlay import OVERLAY_PIXEL_LEVEL0, write_overlay
from dtcwsi.explain.heatmap.scales import SCALES, scale_over
from dtcwsi.explain.heatmap.slide import SlideHeat, heat_of, write_heatmap

__all__ = ["OVERLAY_PIXEL_LEVEL0", "SCALES", "SlideHeat", "heat_of", "scale_over", "write_heatmap", "write_overlay"]
