"""A mask of the whole slide, a picture at any scale, to outlines along its pixels' edges."""

from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from dtcwsi.errors import SlideError
from dtcwsi.store.outlines import OutlineFile, check_unchanged
from dtcwsi.types import Polygon, SlideInfo, TissueMask

__all__ = ["read_mask"]

_TOLERANCE_PX = 2.0
_MOST_PIXELS = 64_000_000
_PNG, _INDEXED, _COLOUR_TYPE_AT = b"\x89PNG\r\n\x1a\n", 3, 25  # a picture may be named .png and be none


def read_mask(file: OutlineFile, info: SlideInfo) -> TissueMask:
    """Outline the tissue of a PNG or TIFF that shows the whole slide, non-zero where tissue is.

    Where it has colours any of them counts, transparent pixels do not. Of an indexed picture, such as QuPath's labels,
    the index counts, whatever colour it is shown in. Of a pyramid the finest level of at most 64 megapixels is read; a
    larger picture is halved until it has no more.
    Memory: 5 bytes a pixel of the mask.
    Raises: SlideError if the file cannot be decoded, its sides differ by more than 2 pixels from those that the slide
    would have at its scale, indices and colours say the opposite of each other, or it is black and of some shape in
    its transparency alone.
    """
    check_unchanged(file)
    tissue = _pixels(file.path)
    height, width = tissue.shape
    off_px = min(
        abs(height - info.height_px * width / info.width_px), abs(width - info.width_px * height / info.height_px)
    )
    if off_px > _TOLERANCE_PX:
        raise SlideError(
            f"{file.path.name!r} has {width} x {height} pixels and its slide {info.width_px} x {info.height_px}; "
            "expected the same shape within 2 pixels: export the mask of the whole slide"
        )
    while tissue.size > _MOST_PIXELS:
        half = (max(1, tissue.shape[1] // 2), max(1, tissue.shape[0] // 2))
        tissue = np.asarray(cv2.resize(tissue * np.uint8(255), half, interpolation=cv2.INTER_AREA) >= 128).astype(
            np.uint8
        )
    scale = np.array([info.width_px / tissue.shape[1], info.height_px / tissue.shape[0]])
    area_um2 = int(np.count_nonzero(tissue)) * float(scale.prod()) * info.spacing_um**2
    return TissueMask(tuple(_polygons(tissue, scale)), area_um2)


def _pixels(path: Path) -> NDArray[np.uint8]:
    """The picture as (height, width) of 0 and 1."""
    try:
        picture = _tiff(path) if path.suffix in (".tif", ".tiff") else _png(path)
    except SlideError:
        raise
    except Exception as error:  # noqa: BLE001 - each codec has its own errors
        what = " ".join(str(error).split())[:120]
        raise SlideError(
            f"{path.name!r} cannot be decoded ({type(error).__name__}: {what}); export it again"
        ) from error
    if picture.ndim == 2:
        return np.asarray(picture != 0).astype(np.uint8)
    if picture.ndim != 3 or not 1 <= picture.shape[2] <= 4:
        raise SlideError(
            f"{path.name!r} holds an array of shape {picture.shape}; expected one picture of at most 4 channels"
        )
    colours = picture.shape[2] - (picture.shape[2] in (2, 4))
    seen = np.asarray((picture[..., :colours] != 0).any(axis=2))
    if colours < picture.shape[2]:
        opaque = np.asarray(picture[..., colours] != 0)
        if not seen.any() and opaque.any() and not opaque.all():
            raise SlideError(
                f"{path.name!r} is black wherever it is not transparent; expected a colour, such as white, where "
                "tissue is: export it again"
            )
        seen &= opaque
    return seen.astype(np.uint8)


def _png(path: Path) -> NDArray[np.generic]:
    content = path.read_bytes()
    if content.startswith(_PNG) and content[_COLOUR_TYPE_AT : _COLOUR_TYPE_AT + 1] == bytes([_INDEXED]):
        return _labelled(path)
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise SlideError(f"{path.name!r} is no picture that can be decoded; expected a PNG: export it again")
    return np.asarray(picture)


def _labelled(path: Path) -> NDArray[np.bool_]:
    """Where an indexed picture has another index than 0.  Raises: SlideError if its colours say the opposite."""
    with PngImageFile(path) as picture:
        index = np.asarray(picture)
        colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        told = picture.info.get("transparency", b"")  # the one index that is transparent, or an alpha each
        used = np.flatnonzero(picture.histogram())
    clear = [told] if isinstance(told, int) else [number for number, alpha in enumerate(told) if not alpha]
    seen = (colours[used] != 0).any(axis=1) & ~np.isin(used, clear)
    if not seen.all() and (seen != (used != 0)).any():
        raise SlideError(
            f"{path.name!r} is an indexed picture whose index 0 is not its black one; expected both outside tissue, or "
            "no black at all: save it in grey levels"
        )
    return np.asarray(index != 0)


def _tiff(path: Path) -> NDArray[np.generic]:
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        sizes = [level.keyframe.imagewidth * level.keyframe.imagelength for level in levels]
        fitting = [number for number, size in enumerate(sizes) if size <= _MOST_PIXELS]
        level = levels[fitting[0] if fitting else len(levels) - 1]
        return np.squeeze(np.asarray(level.asarray()))


def _polygons(tissue: NDArray[np.uint8], scale: NDArray[np.float64]) -> list[Polygon]:
    """Rings along the edges of pixels.

    Each pixel becomes 3 x 3 cells that share their borders with the next pixel's, so that OpenCV's contours, which run
    through the centres of cells, run along edges.
    """
    cells = np.zeros((2 * tissue.shape[0] + 1, 2 * tissue.shape[1] + 1), np.uint8)
    cells[1::2, 1::2] = tissue
    cells = np.asarray(cv2.dilate(cells, np.ones((3, 3), np.uint8)))
    contours, hierarchy = cv2.findContours(cells, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour[:, 0].astype(np.float64) / 2 * scale for contour in contours]
    holes: dict[int, list[NDArray[np.float64]]] = {}
    for number, ring in enumerate(rings):
        holes.setdefault(int(hierarchy[0, number, 3]), []).append(ring)
    outer = [number for number in range(len(rings)) if hierarchy[0, number, 3] == -1]
    outer.sort(key=lambda number: -cv2.contourArea(contours[number]))
    return [Polygon(rings[number], tuple(holes.get(number, ()))) for number in outer]
