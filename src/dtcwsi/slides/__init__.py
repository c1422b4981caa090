"""Slide files to pixels at a known um/px."""

from dtcwsi.slides.opening import SLIDE_SUFFIXES, check_file, find_slides, open_slide, slide_files

__all__ = ["SLIDE_SUFFIXES", "check_file", "find_slides", "open_slide", "slide_files"]
