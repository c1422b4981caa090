"""Patches of a slide as batches of pixels, read ahead by worker processes."""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import cache
from hashlib import blake2b
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from pickle import PicklingError
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dtcwsi.errors import SlideError
from dtcwsi.slides.opening import open_slide
from dtcwsi.slides.workers import begin_worker
from dtcwsi.types import PatchGrid, SlideInfo, SlideReader

__all__ = ["PatchBatch", "patch_batches"]


class PatchBatch(NamedTuple):
    """Patches as they were read, and of each what tells whether another is pixel for pixel the same, if asked for."""

    pixels: NDArray[np.uint8]
    digests: list[bytes]


_ENOUGH_AT_ONCE = 32  # patches: handing over is a cost of its own, small beside so many
_Prepare = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def patch_batches(
    info: SlideInfo,
    grid: PatchGrid,
    *,
    batch_size: int,
    workers: int,
    prepare: _Prepare | None = None,
    with_digests: bool = False,
) -> Generator[PatchBatch, None, None]:
    """Read the patches of a slide in grid order; what reads them also does ``prepare`` to every batch.

    Each worker process has its own slide handle. It hands over whole batches, together some 32 patches where a slide
    has enough for all workers, and works at most two such readings ahead, each of at most ``batch_size + 31`` patches;
    0 workers read in this process. With what is being read and prepared memory is bounded by
    ``(4 workers + 4) (batch_size + 31) patch_size_px^2 3`` bytes whatever the slide's size.
    A script that is its own main module needs the usual ``if __name__ == "__main__":`` for workers.
    Yields: (up to batch_size, patch_size_px, patch_size_px, 3) uint8 RGB, or what ``prepare`` made of it; the digests
    of its patches ``with_digests``.
    Raises: SlideError if a patch cannot be decoded, or a worker process dies.
    """
    batches = _PatchBatches(info.path, info.spacing_um, grid, batch_size, prepare, with_digests=with_digests)
    batches.share_among(workers)
    workers = min(workers, len(batches))
    ahead: dict[str, Any] = {
        "num_workers": workers,
        "prefetch_factor": 2,
        "multiprocessing_context": _clean_processes(),
        "worker_init_fn": begin_worker,
    }
    with closing(batches):
        yield from _read_ahead(batches, ahead if workers else {})


def _read_ahead(batches: "_PatchBatches", ahead: dict[str, Any]) -> Generator[PatchBatch, None, None]:
    name, loader = batches.path.name, None
    for _ in range(len(batches)):
        lost = ""
        try:
            loader = loader or iter(DataLoader(batches, batch_size=None, **ahead))
            batch = next(loader)
        except (PicklingError, AttributeError, TypeError) as error:
            raise SlideError(
                f"{name!r} cannot be read by worker processes, for what prepares its patches cannot be sent to them "
                f"({_brief(error)}); define the encoder's `prepare` at the top of a module, or use --workers 0"
            ) from error
        except (RuntimeError, OSError, EOFError) as error:
            lost = _brief(error)
        if lost:
            doomed, loader = [loader], None
            # torch's own clean-up takes a lock, for which it waits for ever if the lost process died with it
            Thread(target=doomed.clear, daemon=True).start()
            raise SlideError(
                f"{name!r} lost a process that read it ({lost}); it may have run out of "
                "memory, or of shared memory in a container: use fewer --workers, 0 reads without them"
            )
        if isinstance(batch, SlideError):
            raise batch
        pixels, step = np.asarray(batch.pixels), batches.batch_size
        for start in range(0, len(pixels), step):
            yield PatchBatch(pixels[start : start + step], batch.digests[start : start + step])


@cache
def _clean_processes() -> BaseContext:
    """Workers are forked from a server that has no threads.

    A fork of this process would inherit locks that OpenCV's, OpenMP's or CUDA's threads hold, and hang. The server
    imports what workers need once, so that a slide's workers start in milliseconds.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(". ") or type(error).__name__


class _PatchBatches(Dataset["PatchBatch | SlideError"]):
    """A reading's number to the pixels of one or more batches; the slide is opened in the process that reads it.

    An error is returned, not raised, since the loader would bury its sentence in a worker's traceback.
    """

    def __init__(
        self,
        path: Path,
        spacing_um: float,
        grid: PatchGrid,
        batch_size: int,
        prepare: _Prepare | None,
        *,
        with_digests: bool,
    ) -> None:
        self.path, self._spacing_um, self._grid, self.batch_size = path, spacing_um, grid, batch_size
        self._at_once = batch_size
        self._prepare, self._with_digests = prepare, with_digests
        self._reader: SlideReader | None = None

    def share_among(self, workers: int) -> None:
        """Make readings of several batches, but of no more than leave each worker one."""
        wanted = min(_ENOUGH_AT_ONCE, -(-len(self._grid) // max(1, workers)))
        self._at_once = max(1, -(-wanted // self.batch_size)) * self.batch_size

    def __len__(self) -> int:
        return -(-len(self._grid) // self._at_once)

    def close(self) -> None:
        """Let go of the slide, if it was opened in this process."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __getitem__(self, number: int) -> PatchBatch | SlideError:
        try:
            return self._read(number)
        except SlideError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the loader would print a worker's traceback
            kind = type(error).__name__
            return SlideError(f"{self.path.name!r} cannot be read ({kind}: {_brief(error)}); copy it again")

    def _read(self, number: int) -> PatchBatch:
        if self._reader is None:
            self._reader = open_slide(self.path, spacing_um=self._spacing_um, override=True)
        box = (self._grid.patch_size_level0,) * 2
        size = (self._grid.patch_size_px,) * 2
        start = number * self._at_once
        corners = self._grid.coords[start : start + self._at_once].tolist()
        pixels = np.empty((len(corners), *size, 3), np.uint8)
        for place, corner in zip(pixels, corners, strict=True):
            place[:] = self._reader.read((corner[0], corner[1]), box, size)
        made = pixels if self._prepare is None else self._prepare(pixels)
        told_apart = np.ascontiguousarray(made) if self._with_digests else ()
        return PatchBatch(made, [blake2b(patch, digest_size=16).digest() for patch in told_apart])
