"""Patches to the same patches in the stain of a reference."""

from dtcwsi.stain.choosing import METHODS, stain_as_recorded, stain_like
from dtcwsi.stain.normaliser import StainMethod, StainNormaliser

__all__ = ["METHODS", "StainMethod", "StainNormaliser", "stain_as_recorded", "stain_like"]
