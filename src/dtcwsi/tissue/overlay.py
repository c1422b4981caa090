"""The picture by which a person checks a segmentation."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.types import TissueMask

__all__ = ["draw_overlay"]

_OUTER, _HOLE = (20, 130, 20), (30, 60, 220)


def draw_overlay(
    picture: NDArray[np.uint8], pixel_level0: float, mask: TissueMask, *, max_px: int = 1600
) -> NDArray[np.uint8]:
    """Draw tissue outlines (green) and holes (blue) on a slide's overview, at most ``max_px`` a side.

    ``picture`` (height, width, 3) RGB, each of whose pixels covers ``pixel_level0`` level-0 pixels.
    """
    shrink = min(1.0, max_px / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * shrink)), max(1, round(picture.shape[0] * shrink)))
    drawn = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if shrink < 1 else picture.copy()
    thickness = max(1, max(size) // 500)
    for piece in mask.polygons:
        for ring, colour in ((piece.outer, _OUTER), *((hole, _HOLE) for hole in piece.holes)):
            points = np.round(ring * (shrink / pixel_level0)).astype(np.int32)
            cv2.polylines(drawn, [points], isClosed=True, color=colour, thickness=thickness, lineType=cv2.LINE_AA)
    return np.asarray(drawn, np.uint8)
