"""The paper's tissue segmentation: saturation, median, threshold, closing, contours, holes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import OptionError
from dtcwsi.types import Polygon, TissueMask

__all__ = ["TissueParameters", "segment_tissue"]

_WIDEST_FILTER_PX = 200
_SPACINGS_UM = (0.05, 200.0)


@dataclass(frozen=True)
class TissueParameters:
    """How tissue is told from glass; lengths in um, areas in um2.

    ``seg_spacing_um`` resolution at which the slide is looked at; ``saturation_threshold`` of the HSV saturation
    channel, 0 to 255; ``median_um`` width of the median filter; ``closing_um`` width of the closing's ellipse;
    ``min_tissue_um2`` smallest piece kept; ``min_hole_um2`` smallest hole kept, smaller ones are filled;
    ``max_holes`` how many holes of a piece are kept, largest first.
    Source: Appendix A; the paper gives no values.
    """

    seg_spacing_um: float = 8.0
    saturation_threshold: int = 15
    median_um: float = 56.0
    closing_um: float = 32.0
    min_tissue_um2: float = 60_000.0
    min_hole_um2: float = 30_000.0
    max_holes: int = 64

    def __post_init__(self) -> None:
        for name in ("seg_spacing_um", "median_um", "closing_um", "min_tissue_um2", "min_hole_um2", "max_holes"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise OptionError(f"{name} is {value:g}; expected a positive number: correct the option or the table")
        least, most = _SPACINGS_UM
        if not least <= self.seg_spacing_um <= most:
            raise OptionError(f"seg_spacing_um is {self.seg_spacing_um:g}; expected {least:g} to {most:g} um/px")
        for name in ("median_um", "closing_um"):
            width_px = getattr(self, name) / self.seg_spacing_um
            if width_px > _WIDEST_FILTER_PX:
                raise OptionError(
                    f"{name} is {width_px:.0f} pixels wide at {self.seg_spacing_um:g} um/px; expected at most "
                    f"{_WIDEST_FILTER_PX}: lower it or raise seg_spacing_um"
                )
        if not 0 <= self.saturation_threshold <= 255:
            raise OptionError(f"saturation_threshold is {self.saturation_threshold}; expected 0 to 255")


def segment_tissue(
    picture: NDArray[np.uint8], pixel_level0: float, spacing_um: float, parameters: TissueParameters
) -> TissueMask:
    """Outline the tissue of a slide's overview.

    ``picture`` (height, width, 3) RGB, each of whose pixels covers ``pixel_level0`` level-0 pixels of ``spacing_um``;
    a finer picture than ``seg_spacing_um`` is averaged down to it first.
    Returns: polygons in level-0 pixels, the largest first; none if the slide is empty.
    Source: Appendix A.
    """
    shrink = max(1.0, parameters.seg_spacing_um / (pixel_level0 * spacing_um))
    size = (max(1, round(picture.shape[1] / shrink)), max(1, round(picture.shape[0] / shrink)))
    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)) if shrink > 1 else picture
    pixel_level0 = pixel_level0 * shrink
    pixel_um = pixel_level0 * spacing_um
    saturation = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 1]
    smooth = cv2.medianBlur(saturation, _odd(parameters.median_um / pixel_um))
    binary = (smooth > parameters.saturation_threshold).astype(np.uint8)
    width = _odd(parameters.closing_um / pixel_um)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    closed = cv2.morphologyEx(binary, cv2.MORPH_CLOSE, kernel)
    pieces = _pieces(closed, pixel_um**2, parameters)
    pieces.sort(key=lambda piece: -piece[1])
    polygons = tuple(
        Polygon(outer * pixel_level0, tuple(hole * pixel_level0 for hole in holes)) for (outer, *holes), _ in pieces
    )
    return TissueMask(polygons, float(sum(area for _, area in pieces)))


def _pieces(
    binary: NDArray[np.uint8], pixel_um2: float, parameters: TissueParameters
) -> list[tuple[list[NDArray[np.float64]], float]]:
    """Rings (the outer first, then its holes) and area in um2 of every piece that is large enough."""
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    pieces = []
    for index, contour in enumerate(contours):
        if hierarchy[0, index, 3] != -1 or len(contour) < 3:
            continue
        holes = _children(contours, hierarchy[0], index)
        sizes = sorted(((cv2.contourArea(hole) * pixel_um2, n) for n, hole in enumerate(holes)), reverse=True)
        kept = [(size, n) for size, n in sizes[: parameters.max_holes] if size >= parameters.min_hole_um2]
        area = cv2.contourArea(contour) * pixel_um2 - sum(size for size, _ in kept)
        if area >= parameters.min_tissue_um2:
            rings = [_ring(contour), *(_ring(holes[n]) for _, n in kept)]
            pieces.append((rings, area))
    return pieces


def _children(contours: Sequence[Any], hierarchy: NDArray[np.int32], parent: int) -> list[Any]:
    children, child = [], hierarchy[parent, 2]
    while child != -1:
        if len(contours[child]) >= 3:
            children.append(contours[child])
        child = hierarchy[child, 0]
    return children


def _ring(contour: NDArray[np.int32]) -> NDArray[np.float64]:
    """Points of a contour at pixel centres, simplified to half a pixel."""
    simple = cv2.approxPolyDP(contour, 0.5, closed=True)
    return np.asarray(simple if len(simple) >= 3 else contour, float)[:, 0] + 0.5


def _odd(pixels: float) -> int:
    """The odd number nearest to a width in pixels, at least 1."""
    return 2 * int(max(0.0, pixels) / 2) + 1
