"""A slide as a small picture in which every patch has its exact place."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.sampling import overview
from dtcwsi.types import SlideReader

__all__ = ["ELONGATED", "Canvas", "ScaleBar", "blank_canvas", "owners", "scale_bar", "scale_bar_of", "slide_canvas"]

_BLANK = 236
_PATCH_SIDE_PX = 6
_LARGEST_PX = 2000
ELONGATED = 2.5  # wider pictures, times their height, are set one under the other


@dataclass(frozen=True)
class Canvas:
    """A picture to draw on.

    ``picture`` (height, width, 3) RGB, each pixel covering ``pixel_level0`` level-0 pixels a side; its top-left corner
    lies at ``origin_level0`` (x, y). ``spacing_um`` is um per level-0 pixel, None if unknown; ``blank`` if no slide was
    at hand.
    """

    picture: NDArray[np.uint8]
    pixel_level0: float
    origin_level0: tuple[float, float] = (0.0, 0.0)
    spacing_um: float | None = None
    blank: bool = False


@dataclass(frozen=True)
class ScaleBar:
    """A round length: ``share`` of the picture's width, and what to write beside it."""

    share: float
    label: str


def slide_canvas(slide: SlideReader, *, max_px: int, patch_size_level0: float | None = None) -> Canvas:
    """Read a slide's overview, ``max_px`` wide; wider or higher, up to 2000, if it is long or patches under 6 px.

    Raises: SlideError if the file cannot be decoded.
    """
    info = slide.info
    longest = max(info.width_px, info.height_px)
    side = _side_px(info.width_px, info.height_px, max_px, patch_size_level0)
    picture, pixel_level0 = overview(slide, longest * info.spacing_um / side)
    return Canvas(picture, pixel_level0, spacing_um=info.spacing_um)


def blank_canvas(
    coords: NDArray[np.int64], patch_size_level0: float, *, max_px: int, spacing_um: float | None = None
) -> Canvas:
    """Make an empty picture around the patches (N, 2), with a patch's width of margin; as large as `slide_canvas`."""
    if len(coords) == 0:
        return Canvas(np.full((max_px // 2, max_px // 2, 3), 255, np.uint8), 1.0, spacing_um=spacing_um, blank=True)
    origin = coords.min(axis=0) - patch_size_level0
    extent = coords.max(axis=0) + 2 * patch_size_level0 - origin
    side = _side_px(float(extent[0]), float(extent[1]), max_px, patch_size_level0)
    scale = float(extent.max()) / side
    width, height = (max(1, round(side / scale)) for side in extent.tolist())
    picture = np.full((height, width, 3), 255, np.uint8)
    canvas = Canvas(picture, scale, (float(origin[0]), float(origin[1])), spacing_um, blank=True)
    picture[owners(canvas, coords, patch_size_level0) >= 0] = _BLANK
    return canvas


def owners(canvas: Canvas, coords: NDArray[np.int64], patch_size_level0: float) -> NDArray[np.int32]:
    """Say which patch (N, 2) each pixel of the canvas belongs to: the one that covers its centre.

    The later patch wins an overlap; a patch smaller than a pixel gets one.
    Returns: (height, width) index of a patch, -1 where there is none.
    """
    owner = np.full(canvas.picture.shape[:2], -1, np.int32)
    first = (coords - np.asarray(canvas.origin_level0)) / canvas.pixel_level0
    low = np.ceil(first - 0.5).astype(np.int64)
    high = np.ceil(first + patch_size_level0 / canvas.pixel_level0 - 0.5).astype(np.int64)
    high = np.maximum(high, low + 1)
    for index, ((left, top), (right, bottom)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        owner[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = index
    return owner


def scale_bar(canvas: Canvas) -> ScaleBar:
    """Choose the longest of 1, 2, 5 times a power of ten that fits a quarter of the picture's width.

    In um or mm; in level-0 pixels if the um/px is unknown.
    """
    return scale_bar_of(canvas.picture.shape[1] * canvas.pixel_level0, canvas.spacing_um)


def scale_bar_of(width_level0: float, spacing_um: float | None) -> ScaleBar:
    """Choose the scale of a picture ``width_level0`` level-0 pixels wide, as `scale_bar` does."""
    unit = spacing_um or 1.0
    longest = width_level0 * unit / 4
    power = 10.0 ** np.floor(np.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))
    if spacing_um is None:
        label = f"{length:g} px (level 0)"
    else:
        label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return ScaleBar(float(length / unit / width_level0), label)


def _side_px(width_level0: float, height_level0: float, wanted_px: int, patch_size_level0: float | None) -> int:
    """Choose the longer side: figures set pictures in columns, but very wide ones one under the other."""
    aspect = height_level0 / width_level0
    stretch = 3.0 if aspect < 1 / ELONGATED else max(1.0, aspect)
    wanted_px = max(wanted_px, min(round(stretch * wanted_px), _LARGEST_PX))
    if not patch_size_level0:
        return wanted_px
    legible = int(max(width_level0, height_level0) / patch_size_level0 * _PATCH_SIDE_PX)
    return max(wanted_px, min(legible, _LARGEST_PX))
