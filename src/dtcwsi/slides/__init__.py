"""Slide files to pixels at a known um/px."""

from dtcwsi.slides.opening import SLIDE_SUFFIXES, check_file, find_slides, open_slide

__all__ = ["SLIDE_SUFFIXES", "check_file", "find_slides", "open_slide"]
