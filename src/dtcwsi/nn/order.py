"""Orders of patches: along a space-filling curve, and evenly spread."""

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

_MOST_CELLS = 1 << 30  # a side; Hilbert ranks of more would not fit 64 bits

__all__ = ["grid_cells", "hilbert_rank", "infer_step", "spatial_order", "van_der_corput"]


def infer_step(coords: NDArray[np.number]) -> float:
    """Infer the grid step of patches: the smallest positive difference between sorted unique x or y.

    ``coords`` (N, 2) level-0 pixels. Returns: level-0 pixels, 1.0 if all patches share one corner.
    """
    steps = [np.diff(np.unique(coords[:, axis])) for axis in (0, 1)] if len(coords) else []
    positive = [float(step[step > 0].min()) for step in steps if (step > 0).any()]
    return min(positive) if positive else 1.0


def grid_cells(coords: NDArray[np.number], step: float | int) -> NDArray[np.int64]:
    """Give each patch its (column, row) on the grid of ``step`` level-0 pixels that starts at the smallest x and y.

    Steps so small that the grid would have more than 2^30 cells a side are taken as large as that.
    """
    if not len(coords):
        return np.zeros((0, 2), np.int64)
    apart = (coords - coords.min(axis=0)).astype(np.float64)
    return np.asarray(np.floor(apart / max(step, apart.max() / (_MOST_CELLS - 1)) + 1e-6), np.int64)


def hilbert_rank(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each cell its position along a Hilbert curve over the smallest square of side 2^k that holds all cells.

    ``cells`` (N, 2) non-negative (column, row). Returns: (N,) int64, equal for equal cells.
    Source: the usual quadrant-by-quadrant construction (Hilbert 1891).
    """
    x, y = cells[:, 0].copy(), cells[:, 1].copy()
    rank = np.zeros(len(cells), np.int64)
    side = 1 << int(max(int(cells.max(initial=0)), 1)).bit_length()
    half = side // 2
    while half:
        right, low = (x & half) > 0, (y & half) > 0
        rank += half * half * ((3 * right) ^ low)
        flip = right & ~low
        x[flip], y[flip] = side - 1 - x[flip], side - 1 - y[flip]
        swap = ~low
        x[swap], y[swap] = y[swap], x[swap].copy()
        half //= 2
    return rank


def spatial_order(coords: NDArray[np.number], step: float | int) -> NDArray[np.int64]:
    """Order patches along the Hilbert curve of their cells; within a cell by y, then x.

    ``coords`` (N, 2). Returns: (N,) indices, the same sequence of patches whatever order they came in.
    """
    return np.lexsort((coords[:, 0], coords[:, 1], hilbert_rank(grid_cells(coords, step)))).astype(np.int64)


def van_der_corput(index: Int[Tensor, "count"]) -> Int[Tensor, "count"]:
    """Return terms of the base-2 van der Corput sequence times 2^31, as whole numbers.

    Every prefix of the sequence is spread evenly over its interval, so that ties broken by it thin evenly.
    ``index`` below 2^31. Source: reversing the binary digits (van der Corput 1935).
    """
    value = index
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        value = ((value >> width) & mask) | ((value & mask) << width)  # neighbouring runs of digits change places
    return value >> 1
