"""Boxes of a TIFF's pages, whose tiles or strips are decoded once while patches around them are read."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from dtcwsi.errors import SlideError, first_line
from dtcwsi.slides.blocks import BlockedLevel, Blocks

__all__ = ["DoubtfulTileError", "TiledPages", "decodes_straight"]

_RGB, _YCBCR = 2, 6
_JPEG, _APERIO_JP2K_RGB = 7, 33005
_JPEG_2000 = (33003, 33004, _APERIO_JP2K_RGB, 34712)
_Decoded = NDArray[np.uint8]
_END, _NOT_REACHED, _BLOCK_PX = b"\xff\xd9", 128, 8

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it has to say comes in the error's sentence


class DoubtfulTileError(Exception):
    """A JPEG tile that may be damaged: libjpeg says so in warnings that the decoder drops."""


class TiledPages:
    """Pages of an open TIFF, read by boxes.

    JPEG tiles go straight to libjpeg-turbo, Aperio's RGB JPEG 2000 to OpenJPEG, all else through tifffile. Memory: that
    of `Blocks`; patches that share a tile decode it once.
    With ``doubts`` a JPEG tile without an end, or whose last block is the grey of what was not reached, raises
    DoubtfulTileError, for a reader to decide that knows better. A JPEG 2000 tile without an end is refused, unless the
    page's first one has none either: OpenJPEG shows what it finds and is content.
    """

    def __init__(
        self, path: Path, tiff: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], *, doubts: bool = False
    ) -> None:
        self._doubts = doubts
        self._name, self._file, self._pages = path.name, tiff.filehandle, pages
        self._decode = [_decoder_of(page) for page in pages]
        self._must_end = [page.compression in _JPEG_2000 and self._ends(page) for page in pages]
        sizes = [(page.imagewidth, page.imagelength, page.chunks[1], page.chunks[0]) for page in pages]
        self._blocks = Blocks([BlockedLevel(*size) for size in sizes], self._decoded)

    def read(self, number: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a box of a page's pixels, white where it has none.

        Returns: (height, width, 3) RGB.  Raises: SlideError if a tile cannot be decoded.
        """
        return self._blocks.read(number, left, top, width, height)

    def _decoded(self, number: int, row: int, column: int) -> _Decoded | None:
        page = self._pages[number]
        index = row * -(-page.imagewidth // page.chunks[1]) + column
        try:
            stored = self._stored(page, index)
            if self._must_end[number] and stored and not stored.rstrip(b"\0").endswith(_END):
                raise ValueError("its code stream has no end")
            tile = self._decode[number](stored, index)
            if tile is not None and self._doubts and page.compression == _JPEG and _is_doubtful(stored, tile):
                raise DoubtfulTileError
            if tile is not None and self._doubts and tile.shape[:2] != page.chunks[:2]:
                raise ValueError(f"it is {tile.shape[1]} x {tile.shape[0]} px, not {page.chunks[1]} x {page.chunks[0]}")
        except DoubtfulTileError:
            raise
        except Exception as error:  # noqa: BLE001 - each codec has its own errors
            raise SlideError(
                f"{self._name!r} cannot be decoded in tile {index} ({first_line(error)}); "
                "the file is damaged or cut off: copy it again"
            ) from error
        return tile

    def _stored(self, page: tifffile.TiffPage, index: int) -> bytes:
        start, length = page.dataoffsets[index], page.databytecounts[index]  # tifffile may read to know them
        self._file.seek(start)
        stored: bytes = self._file.read(length)
        if len(stored) < length:
            raise ValueError("the file ends early")
        return stored

    def _ends(self, page: tifffile.TiffPage) -> bool:
        """Whether the first tile that is stored ends as the standard says."""
        first = next((index for index, length in enumerate(page.databytecounts) if length), None)
        try:
            return first is not None and self._stored(page, first).rstrip(b"\0").endswith(_END)
        except ValueError:
            return False


def _is_doubtful(stored: bytes, tile: _Decoded) -> bool:
    cut_off = not stored.rstrip(b"\0").endswith(_END)
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
