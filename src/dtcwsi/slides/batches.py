"""Patches of a slide as batches of pixels, read ahead by worker processes."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dtcwsi.errors import SlideError
from dtcwsi.slides.opening import open_slide
from dtcwsi.types import PatchGrid, SlideInfo, SlideReader

__all__ = ["patch_batches"]


def patch_batches(info: SlideInfo, grid: PatchGrid, *, batch_size: int, workers: int) -> Iterator[NDArray[np.uint8]]:
    """Read the patches of a slide in grid order.

    Each worker process has its own slide handle and holds at most two batches, so memory is bounded by
    ``(2 workers + 2) batch_size patch_size_px^2 3`` bytes whatever the slide's size; 0 workers read in this process.
    Yields: (up to batch_size, patch_size_px, patch_size_px, 3) uint8 RGB.
    Raises: SlideError if a patch cannot be decoded.
    """
    batches = _PatchBatches(info.path, info.spacing_um, grid, batch_size)
    workers = min(workers, len(batches))
    loader = DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=2 if workers else None)
    for batch in loader:
        if isinstance(batch, SlideError):
            raise batch
        yield np.asarray(batch)


class _PatchBatches(Dataset["NDArray[np.uint8] | SlideError"]):
    """Batch number to pixels; the slide is opened in the process that reads it.

    An error is returned, not raised, since the loader would bury its sentence in a worker's traceback.
    """

    def __init__(self, path: Path, spacing_um: float, grid: PatchGrid, batch_size: int) -> None:
        self._path, self._spacing_um, self._grid, self._batch_size = path, spacing_um, grid, batch_size
        self._reader: SlideReader | None = None

    def __len__(self) -> int:
        return -(-len(self._grid) // self._batch_size)

    def __getitem__(self, number: int) -> NDArray[np.uint8] | SlideError:
        try:
            return self._read(number)
        except SlideError as error:
            return error

    def _read(self, number: int) -> NDArray[np.uint8]:
        if self._reader is None:
            cv2.setNumThreads(1)
            self._reader = open_slide(self._path, spacing_um=self._spacing_um, override=True)
        box = (self._grid.patch_size_level0,) * 2
        size = (self._grid.patch_size_px,) * 2
        start = number * self._batch_size
        corners = self._grid.coords[start : start + self._batch_size].tolist()
        return np.stack([self._reader.read((x, y), box, size) for x, y in corners])
