"""Boxes of a TIFF's pages, whose tiles or strips are decoded once while patches around them are read."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from dtcwsi.errors import SlideError

__all__ = ["DoubtfulTileError", "TiledPages", "decodes_straight"]

_CACHE_BYTES = 32 << 20
_RGB, _YCBCR = 2, 6
_JPEG, _APERIO_JP2K_RGB = 7, 33005
_Decoded = NDArray[np.uint8]
_END_OF_JPEG, _NOT_REACHED, _BLOCK_PX = b"\xff\xd9", 128, 8

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it has to say comes in the error's sentence


class DoubtfulTileError(Exception):
    """A JPEG tile that may be damaged: libjpeg says so in warnings that the decoder drops."""


class TiledPages:
    """Pages of an open TIFF, read by boxes.

    JPEG tiles go straight to libjpeg-turbo, Aperio's RGB JPEG 2000 to OpenJPEG, all else through tifffile. Decoded
    tiles stay in memory, the latest used, up to 32 MiB or one of them; patches that share a tile decode it once.
    With ``doubts`` a JPEG tile without an end, or whose last block is the grey of what was not reached, raises
    DoubtfulTileError, for a reader to decide that knows better.
    """

    def __init__(
        self, path: Path, tiff: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], *, doubts: bool = False
    ) -> None:
        self._doubts = doubts
        self._name, self._file, self._pages = path.name, tiff.filehandle, pages
        self._decode = [_decoder_of(page) for page in pages]
        self._kept: OrderedDict[tuple[int, int], _Decoded | None] = OrderedDict()
        self._bytes = 0

    def read(self, number: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a box of a page's pixels, white where it has none.

        Returns: (height, width, 3) RGB.  Raises: SlideError if a tile cannot be decoded.
        """
        page = self._pages[number]
        box = np.full((height, width, 3), 255, np.uint8)
        rows, columns = page.chunks[:2]
        across = -(-page.imagewidth // columns)
        for row in range(max(0, top) // rows, -(-min(top + height, page.imagelength) // rows)):
            for column in range(max(0, left) // columns, -(-min(left + width, page.imagewidth) // columns)):
                tile = self._tile(number, row * across + column)
                if tile is not None:
                    _paste(box, tile, row * rows - top, column * columns - left)
        return box

    def _tile(self, number: int, index: int) -> _Decoded | None:
        """Decode a tile or strip, cropped to the picture; None where the file stores an empty one."""
        key = (number, index)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        tile = self._decoded(number, index)
        self._kept[key] = tile
        self._bytes += 0 if tile is None else tile.nbytes
        while self._bytes > _CACHE_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return tile

    def _decoded(self, number: int, index: int) -> _Decoded | None:
        page = self._pages[number]
        try:
            start, length = page.dataoffsets[index], page.databytecounts[index]  # tifffile may read to know them
            self._file.seek(start)
            stored = self._file.read(length)
            if len(stored) < length:
                raise ValueError("the file ends early")
            tile = self._decode[number](stored, index)
            if tile is not None and self._doubts and page.compression == _JPEG and _is_doubtful(stored, tile):
                raise DoubtfulTileError
            if tile is not None and self._doubts and tile.shape[:2] != page.chunks[:2]:
                raise ValueError(f"it is {tile.shape[1]} x {tile.shape[0]} px, not {page.chunks[1]} x {page.chunks[0]}")
        except DoubtfulTileError:
            raise
        except Exception as error:  # noqa: BLE001 - each codec has its own errors
            what = str(error).partition("\n")[0] or type(error).__name__
            raise SlideError(
                f"{self._name!r} cannot be decoded in tile {index} ({what}); "
                "the file is damaged or cut off: copy it again"
            ) from error
        if tile is None:
            return None
        rows, columns = page.chunks[:2]
        row, column = divmod(index, -(-page.imagewidth // columns))
        return tile[: page.imagelength - row * rows, : page.imagewidth - column * columns]


def _is_doubtful(stored: bytes, tile: _Decoded) -> bool:
    cut_off = not stored.rstrip(b"\0").endswith(_END_OF_JPEG)
    return cut_off or bool((tile[-_BLOCK_PX:, -_BLOCK_PX:] == _NOT_REACHED).all())


def decodes_straight(page: tifffile.TiffPage) -> bool:
    """Tell whether a page has whole tiles of a kind that needs no more than their own bytes to be decoded."""
    plain = page.dtype == np.uint8 and page.samplesperpixel == 3 and page.planarconfig == 1
    kind = (page.compression, page.photometric)
    known = kind in ((_JPEG, _RGB), (_JPEG, _YCBCR), (_APERIO_JP2K_RGB, _RGB))
    return bool(page.is_tiled and plain and known and min(page.databytecounts, default=0) > 0)


def _decoder_of(page: tifffile.TiffPage) -> Callable[[bytes, int], _Decoded | None]:
    if not decodes_straight(page):
        return partial(_by_tifffile, page)
    if page.compression == _APERIO_JP2K_RGB:
        return lambda stored, _: np.asarray(imagecodecs.jpeg2k_decode(stored), np.uint8)
    space = "RGB" if page.photometric == _RGB else "YCBCR"
    read = partial(imagecodecs.jpeg8_decode, tables=page.jpegtables, colorspace=space, outcolorspace="RGB")
    return lambda stored, _: np.asarray(read(stored), np.uint8)


def _by_tifffile(page: tifffile.TiffPage, stored: bytes, index: int) -> _Decoded | None:
    decoded, _, shape = page.decode(stored, index, jpegtables=page.jpegtables)
    found: Any = decoded
    return None if found is None else np.asarray(found)[0, : shape[1], : shape[2], :3]


def _paste(box: NDArray[np.uint8], tile: NDArray[np.uint8], top: int, left: int) -> None:
    """Copy what a tile at (top, left) shares with the box."""
    bottom, right = min(top + tile.shape[0], box.shape[0]), min(left + tile.shape[1], box.shape[1])
    if bottom > max(top, 0) and right > max(left, 0):
        part = tile[max(0, -top) : bottom - top, max(0, -left) : right - left]
        box[max(top, 0) : bottom, max(left, 0) : right] = part
