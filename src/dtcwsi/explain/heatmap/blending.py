"""Patches to pixels, exact by area: any pixel size, patches at fractions of pixels, patches that overlap.

A patch is a box, and the pixels that it covers are, along each axis, the running sum of at most four numbers. So all
patches are written down as sixteen numbers each and summed once, whatever their size: no loop runs over patches.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blended", "Frame", "HeatLayer", "blend"]

_NEGLIGIBLE = 1e-6  # of a pixel; running sums end within 1e-10 of 0


@dataclass(frozen=True)
class Frame:
    """Pixels on a slide: ``height`` x ``width`` of them, each ``pixel_level0`` level-0 pixels a side.

    The top-left corner lies at ``origin_level0`` (x, y).
    """

    width: int
    height: int
    pixel_level0: float
    origin_level0: tuple[float, float] = (0.0, 0.0)

    def part(self, left: int, top: int, width: int, height: int) -> "Frame":
        """Cut a box of pixels out; it may reach over the rim."""
        x, y = self.origin_level0
        return replace(
            self,
            width=width,
            height=height,
            origin_level0=(x + left * self.pixel_level0, y + top * self.pixel_level0),
        )


@dataclass(frozen=True)
class HeatLayer:
    """Patches with their heat.

    ``coords`` (N, 2) and ``patch_size_level0`` in level-0 pixels; ``heat`` (N,) in 0..1, NaN without attention.
    """

    coords: NDArray[np.int64]
    patch_size_level0: float
    heat: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.coords.shape != (len(self.heat), 2):
            raise ValueError(f"coords have shape {self.coords.shape}, expected ({len(self.heat)}, 2) as heat has")


@dataclass(frozen=True)
class Blended:
    """Pixels: ``heat`` (height, width) in 0..1, and ``cover``, the share of each pixel under patches with attention."""

    heat: NDArray[np.float32]
    cover: NDArray[np.float32]


def blend(layer: HeatLayer, frame: Frame) -> Blended:
    """Give every pixel the mean heat of the patches that cover it, weighed by the area that each covers.

    Patches without attention count nowhere: on a scale of powers of ten there is no mean with nothing.
    """
    seen = _seen(layer, frame)
    if not len(seen):
        nothing = np.zeros((frame.height, frame.width), np.float32)
        return Blended(nothing, nothing)
    low = (layer.coords[seen] - np.asarray(frame.origin_level0)) / frame.pixel_level0
    corners = _Corners(low, low + layer.patch_size_level0 / frame.pixel_level0, frame)
    area = corners.summed(np.ones(len(seen)))
    shown = area > _NEGLIGIBLE
    mean = np.divide(corners.summed(layer.heat[seen]), area, out=np.zeros_like(area), where=shown)
    return Blended(mean.clip(0, 1).astype(np.float32), np.where(shown, area.clip(0, 1), 0).astype(np.float32))


def _seen(layer: HeatLayer, frame: Frame) -> NDArray[np.int64]:
    """Number the patches with attention that reach into a frame."""
    there = np.isfinite(layer.heat)
    for axis, side in enumerate((frame.width, frame.height)):
        start, place = frame.origin_level0[axis], layer.coords[:, axis]
        there &= (place > start - layer.patch_size_level0) & (place < start + side * frame.pixel_level0)
    return np.flatnonzero(there)


class _Corners:
    """Boxes as the second differences of the areas that they cover."""

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], frame: Frame) -> None:
        self._shape = (frame.height + 2, frame.width + 2)
        low, high = (ends.clip(0, (frame.width, frame.height)) for ends in (low, high))
        x, across = _steps(low[:, 0], high[:, 0])
        y, down = _steps(low[:, 1], high[:, 1])
        self._place = (y[:, :, None] * self._shape[1] + x[:, None, :]).reshape(len(low), 16)
        self._share = (down[:, :, None] * across[:, None, :]).reshape(len(low), 16)

    def summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum value times covered area over the boxes, for every pixel."""
        weights = (self._share * values[:, None]).ravel()
        steps = np.bincount(self._place.ravel(), weights, self._shape[0] * self._shape[1]).reshape(self._shape)
        return np.asarray(steps.cumsum(axis=0).cumsum(axis=1)[:-2, :-2])


def _steps(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where along an axis the covered share of a pixel changes, and by how much, both (N, 4)."""
    first, last = np.floor(low).astype(np.int64), np.floor(high).astype(np.int64)
    begun, ended = low - first, high - last
    return np.stack([first, first + 1, last, last + 1], 1), np.stack([1 - begun, begun, ended - 1, -ended], 1)
