"""Boxes of a picture that is stored in blocks, each decoded once while patches around it are read."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockedLevel", "Blocks"]

_CACHE_BYTES = 32 << 20


class BlockedLevel(NamedTuple):
    """The size of a level and of its blocks, in its pixels; blocks at the right and lower rim may reach beyond it."""

    width: int
    height: int
    block_width: int
    block_height: int


class Blocks:
    """Levels read by boxes.

    ``decode(level, row, column)`` gives a block (up to block_height, up to block_width, 3), or None for an empty one.
    Decoded blocks stay in memory, the latest used, up to 32 MiB or one of them.
    """

    def __init__(
        self, levels: Sequence[BlockedLevel], decode: Callable[[int, int, int], NDArray[np.uint8] | None]
    ) -> None:
        self._levels, self._decode = levels, decode
        self._kept: OrderedDict[tuple[int, int, int], NDArray[np.uint8] | None] = OrderedDict()
        self._bytes = 0

    def read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a box of a level's pixels, white where it has none.  Returns: (height, width, 3) RGB."""
        size = self._levels[level]
        rows, columns = size.block_height, size.block_width
        box = np.full((height, width, 3), 255, np.uint8)
        for row in range(max(0, top) // rows, -(-min(top + height, size.height) // rows)):
            for column in range(max(0, left) // columns, -(-min(left + width, size.width) // columns)):
                block = self._block(level, row, column)
                if block is not None:
                    _paste(box, block, row * rows - top, column * columns - left)
        return box

    def _block(self, level: int, row: int, column: int) -> NDArray[np.uint8] | None:
        key = (level, row, column)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        block = self._decode(level, row, column)
        if block is not None:
            size = self._levels[level]
            block = block[: size.height - row * size.block_height, : size.width - column * size.block_width]
        self._kept[key] = block
        self._bytes += 0 if block is None else block.nbytes
        while self._bytes > _CACHE_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return block


def _paste(box: NDArray[np.uint8], block: NDArray[np.uint8], top: int, left: int) -> None:
    """Copy what a block at (top, left) shares with the box."""
    bottom, right = min(top + block.shape[0], box.shape[0]), min(left + block.shape[1], box.shape[1])
    if bottom > max(top, 0) and right > max(left, 0):
        part = block[max(0, -top) : bottom - top, max(0, -left) : right - left]
        box[max(top, 0) : bottom, max(left, 0) : right] = part
