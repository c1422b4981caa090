"""Boxes of a pyramid at any resolution: pick the level, read, resample."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.types import SlideInfo, SlideReader

__all__ = ["SampledReader", "best_level", "overview", "sample"]

_MAX_READ_PX = 2048


def best_level(downsamples: Iterable[float], wanted: float) -> int:
    """Pick the coarsest level that is still at least as fine as wanted, by real downsamples; level 0 if none is."""
    fine_enough = [(value, level) for level, value in enumerate(downsamples) if value <= wanted * 1.01]
    return max(fine_enough)[1] if fine_enough else 0


def sample(
    read_level: Callable[[int, tuple[int, int], tuple[int, int]], NDArray[np.uint8]],
    downsamples: tuple[float, ...],
    top_left_level0: tuple[int, int],
    size_level0: tuple[int, int],
    size_px: tuple[int, int],
) -> NDArray[np.uint8]:
    """Read a level-0 box from the best level and resample it to ``size_px`` (width, height).

    ``read_level(level, top_left_level0, level_size)`` returns (height, width, 3). Shrinking averages areas, so that
    nothing aliases; enlarging interpolates linearly.
    """
    level = best_level(downsamples, min(size_level0[0] / size_px[0], size_level0[1] / size_px[1]))
    scale = downsamples[level]
    level_size = (max(1, round(size_level0[0] / scale)), max(1, round(size_level0[1] / scale)))
    pixels = read_level(level, top_left_level0, level_size)
    if level_size == size_px:
        return pixels
    shrinks = level_size[0] >= size_px[0]
    return np.asarray(
        cv2.resize(pixels, size_px, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )


class SampledReader(ABC):
    """The part of a `dtcwsi.types.SlideReader` that is the same for all: boxes sampled from the levels in ``_info``."""

    _info: SlideInfo

    @property
    def info(self) -> SlideInfo:
        """The slide's size, resolution and levels."""
        return self._info

    def read(
        self, top_left_level0: tuple[int, int], size_level0: tuple[int, int], size_px: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Read a box of level-0 pixels; see `dtcwsi.types.SlideReader.read`."""
        return sample(self._read_level, self._info.level_downsamples, top_left_level0, size_level0, size_px)

    @abstractmethod
    def _read_level(
        self, level: int, top_left_level0: tuple[int, int], level_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Read a box of a level's pixels; see `sample`."""


def overview(
    reader: SlideReader, spacing_um: float, *, max_pixels: int = 64_000_000
) -> tuple[NDArray[np.uint8], float]:
    """Read the whole slide at a coarse um/px, in boxes of at most 2048 level pixels a side.

    Coarser than asked if the picture would exceed ``max_pixels``, never finer than the slide itself.
    Returns: (height, width, 3) RGB and how many level-0 pixels one of its pixels covers.
    """
    info = reader.info
    scale = max(1.0, spacing_um / info.spacing_um, (info.width_px * info.height_px / max_pixels) ** 0.5)
    width, height = max(1, round(info.width_px / scale)), max(1, round(info.height_px / scale))
    picture = np.full((height, width, 3), 255, np.uint8)
    level_scale = scale / info.level_downsamples[best_level(info.level_downsamples, scale)]
    side = max(1, int(_MAX_READ_PX / max(1.0, level_scale)))
    for top in range(0, height, side):
        for left in range(0, width, side):
            bottom, right = min(top + side, height), min(left + side, width)
            x0, y0, x1, y1 = (round(edge * scale) for edge in (left, top, right, bottom))
            box = reader.read((x0, y0), (max(1, x1 - x0), max(1, y1 - y0)), (right - left, bottom - top))
            picture[top:bottom, left:right] = box
    return picture, scale
