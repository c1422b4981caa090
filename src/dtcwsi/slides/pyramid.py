"""Write a pyramidal, tiled, JPEG-compressed TIFF that OpenSlide opens as `generic-tiff`.

The image is read once, in strips of one row of tiles. Each level encodes the rows it receives into a spool file and
hands them, halved, to the next level; so memory does not grow with the height of the image.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import cv2
import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from dtcwsi.store.atomic import beside

__all__ = ["PixelSource", "write_pyramid"]

_MICRONS_PER_CENTIMETRE = 10_000.0
_FEWEST_LEVELS = 3
_LARGEST_THUMBNAIL_PX = 512
_BIGTIFF_FROM_BYTES = 2**32


class PixelSource(Protocol):
    """Anything with a shape `(height, width, 3)` and uint8 slicing by rows and columns; it may be lazy."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of the full-resolution image."""
        ...

    def __getitem__(self, rows_columns: Any, /) -> Any:
        """The pixels of `source[top:bottom, left:right]`."""
        ...


def write_pyramid(
    path: Path,
    image: PixelSource,
    *,
    spacing_um: float,
    tile_px: int = 256,
    levels: int | None = None,
    jpeg_quality: int = 85,
    description: str = "",
) -> None:
    """Write an image as a tiled TIFF whose levels are each half the size of the one before, whole or not at all.

    ``image`` is (height, width, 3) uint8, read once in strips of ``tile_px`` rows; ``spacing_um`` is um per pixel of
    level 0, stored in each level as pixels per centimetre; ``tile_px`` is a multiple of 16. ``levels`` is by default at
    least three and as many as bring the longer side to 512 px. Chroma is halved in both directions. ``description`` is
    the ASCII text of level 0's ImageDescription tag. Equal pixels give equal bytes.
    Raises: ValueError if the image is not RGB uint8, the spacing is not positive or a size cannot be written;
    StoreError if the disk refuses.
    """
    height_px, width_px = _checked_size(image, spacing_um=spacing_um, tile_px=tile_px)
    with beside(path) as partial, ExitStack() as spools:
        pyramid: list[_Level] = []
        for size_px in reversed(_level_sizes(height_px, width_px, levels)):
            spool = spools.enter_context(tempfile.TemporaryFile(dir=path.parent))
            smaller = pyramid[0] if pyramid else None
            level = _Level(size_px, tile_px=tile_px, jpeg_quality=jpeg_quality, spool=spool, smaller=smaller)
            pyramid.insert(0, level)
        _stream(image, pyramid[0], tile_px=tile_px)
        _assemble(partial, pyramid, spacing_um=spacing_um, tile_px=tile_px, description=description)


class _Level:
    """One level of the pyramid: rows of pixels go in, encoded tiles come out."""

    def __init__(
        self, size_px: tuple[int, int], *, tile_px: int, jpeg_quality: int, spool: IO[bytes], smaller: "_Level | None"
    ) -> None:
        self.size_px = size_px
        self._tile_px = tile_px
        self._jpeg_quality = jpeg_quality
        self._spool = spool
        self._smaller = smaller
        self._tile_bytes: list[int] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._waiting_rows = 0

    def push(self, rows: NDArray[np.uint8]) -> None:
        """Take at most `tile_px` more rows; encode them once a row of tiles is full."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= self._tile_px:
            band = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
            self._encode(band[: self._tile_px])
            rest = band[self._tile_px :]
            self._waiting = [rest] if len(rest) else []
            self._waiting_rows = len(rest)

    def finish(self) -> None:
        """Encode the last, lower row of tiles, here and in all smaller levels."""
        if self._waiting:
            self._encode(np.concatenate(self._waiting))
            self._waiting = []
        if self._smaller is not None:
            self._smaller.finish()

    def tiles(self) -> Iterator[bytes]:
        """The encoded tiles from left to right and top to bottom."""
        self._spool.seek(0)
        for n_bytes in self._tile_bytes:
            yield self._spool.read(n_bytes)

    def _encode(self, band: NDArray[np.uint8]) -> None:
        if self._smaller is not None and min(band.shape[:2]) > 1:
            self._smaller.push(_halved(band))
        for left in range(0, band.shape[1], self._tile_px):
            tile = band[:, left : left + self._tile_px]
            below, right = self._tile_px - tile.shape[0], self._tile_px - tile.shape[1]
            # Repeating the edge keeps the padding from ringing into the picture.
            padded = np.pad(tile, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else tile
            encoded = imagecodecs.jpeg8_encode(
                np.ascontiguousarray(padded), self._jpeg_quality, colorspace="rgb", subsampling="420"
            )
            self._tile_bytes.append(self._spool.write(encoded))


def _stream(image: PixelSource, largest: _Level, *, tile_px: int) -> None:
    height_px, width_px = largest.size_px
    for top in range(0, height_px, tile_px):
        rows = np.asarray(image[top : min(top + tile_px, height_px), 0:width_px])
        if rows.dtype != np.uint8:
            raise ValueError(f"pixels are {rows.dtype}, expected uint8; convert the image before writing it")
        largest.push(rows)
    largest.finish()


def _assemble(path: Path, levels: list[_Level], *, spacing_um: float, tile_px: int, description: str) -> None:
    raw_bytes = 3 * levels[0].size_px[0] * levels[0].size_px[1]
    with tifffile.TiffWriter(path, bigtiff=raw_bytes >= _BIGTIFF_FROM_BYTES) as tiff:
        for number, level in enumerate(levels):
            pixels_per_cm = _MICRONS_PER_CENTIMETRE / (spacing_um * levels[0].size_px[1] / level.size_px[1])
            tiff.write(
                level.tiles(),
                shape=(*level.size_px, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                tile=(tile_px, tile_px),
                resolution=(pixels_per_cm, pixels_per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                description=description if description and number == 0 else None,
                software="dtcwsi",
                metadata=None,
            )


def _checked_size(image: PixelSource, *, spacing_um: float, tile_px: int) -> tuple[int, int]:
    if len(image.shape) != 3 or image.shape[2] != 3 or min(image.shape) < 1:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (height, width, 3) with pixels in it")
    if not spacing_um > 0:
        raise ValueError(f"spacing is {spacing_um} um/px, expected a positive number")
    if tile_px < 16 or tile_px % 16:
        raise ValueError(f"tile side is {tile_px} px, expected a multiple of 16 as JPEG in TIFF asks for")
    return image.shape[0], image.shape[1]


def _level_sizes(height_px: int, width_px: int, levels: int | None) -> list[tuple[int, int]]:
    possible = min(height_px, width_px).bit_length()
    if levels is not None and not 1 <= levels <= possible:
        raise ValueError(f"{levels} levels of {width_px} x {height_px} px asked for, expected 1 to {possible}")
    sizes = [(height_px, width_px)]
    while len(sizes) < possible and len(sizes) != levels:
        enough = len(sizes) >= _FEWEST_LEVELS and max(sizes[-1]) <= _LARGEST_THUMBNAIL_PX
        if levels is None and enough:
            break
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def _halved(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height_px, width_px = band.shape[0] // 2, band.shape[1] // 2
    even = band[: 2 * height_px, : 2 * width_px]
    return np.asarray(cv2.resize(even, (width_px, height_px), interpolation=cv2.INTER_AREA), dtype=np.uint8)
