"""A slide in blocks of 256 px: which regions each block shows, and fields on coarse cells brought to its pixels."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.layout import CELL_PX, EDGE_REACH_PX, FAR_PX, Region

__all__ = ["BLOCK_PX", "block_corners", "field_in_block", "regions_by_block"]

BLOCK_PX = 256
_BLOCK_CELLS = BLOCK_PX // CELL_PX

Corner = tuple[int, int]


def block_corners(side_px: int) -> Iterator[Corner]:
    """The (top, left) pixel of each block, row by row; the last ones may reach over the edge."""
    for top in range(0, side_px, BLOCK_PX):
        for left in range(0, side_px, BLOCK_PX):
            yield top, left


def field_in_block(
    cells: NDArray[np.float32], corner: Corner, *, first_cell: Corner = (0, 0), beyond: float | None = None
) -> NDArray[np.float32]:
    """Interpolate a field on cells to the pixels of one block, without a seam towards the next block.

    ``first_cell`` is the (row, column) on the slide of ``cells[0, 0]``; outside of them the field is ``beyond``, or
    the nearest cell's value. Returns: (BLOCK_PX, BLOCK_PX).
    """
    top, left = corner[0] // CELL_PX - 1 - first_cell[0], corner[1] // CELL_PX - 1 - first_cell[1]
    around = _BLOCK_CELLS + 2
    rows, columns = np.arange(top, top + around), np.arange(left, left + around)
    near = cells[np.clip(rows, 0, cells.shape[0] - 1)[:, None], np.clip(columns, 0, cells.shape[1] - 1)[None]]
    if beyond is not None:
        near[(rows < 0) | (rows >= cells.shape[0])] = beyond
        near[:, (columns < 0) | (columns >= cells.shape[1])] = beyond
    pixels = cv2.resize(near, (around * CELL_PX, around * CELL_PX), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(pixels[CELL_PX:-CELL_PX, CELL_PX:-CELL_PX], dtype=np.float32)


def regions_by_block(regions: tuple[Region, ...], inside_px: NDArray[np.float32]) -> dict[Corner, list[Region]]:
    """List the regions that reach into each block that has tissue, in painting order.

    ``inside_px`` is the slide's signed distance to the edge of the tissue.
    """
    with_tissue = {corner for corner, highest in _highest_by_block(inside_px, (0, 0)) if highest > -EDGE_REACH_PX}
    seen: dict[Corner, list[Region]] = {corner: [] for corner in with_tissue}
    for region in regions:
        for corner, highest in _highest_by_block(region.inside_px, (region.row, region.column)):
            if corner in with_tissue and highest > -region.reach_px:
                seen[corner].append(region)
    return seen


def _highest_by_block(cells: NDArray[np.float32], first_cell: Corner) -> Iterator[tuple[Corner, float]]:
    """Each block that the cells touch, with the greatest value in it and one cell around it."""
    above, before = first_cell[0] % _BLOCK_CELLS, first_cell[1] % _BLOCK_CELLS
    below, behind = -(above + cells.shape[0]) % _BLOCK_CELLS, -(before + cells.shape[1]) % _BLOCK_CELLS
    padded = np.pad(cells, ((above, below), (before, behind)), constant_values=-FAR_PX)
    blocks = (padded.shape[0] // _BLOCK_CELLS, _BLOCK_CELLS, padded.shape[1] // _BLOCK_CELLS, _BLOCK_CELLS)
    highest = cv2.dilate(padded, np.ones((3, 3), np.uint8)).reshape(blocks).max(axis=(1, 3))
    for row, column in np.ndindex(highest.shape):
        top = (first_cell[0] - above) * CELL_PX + row * BLOCK_PX
        left = (first_cell[1] - before) * CELL_PX + column * BLOCK_PX
        yield (top, left), float(highest[row, column])
