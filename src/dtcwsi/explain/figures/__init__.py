"""Figures of one slide: rasters, pages and what is on them."""
