"""TIFFs that OpenSlide does not read, through tifffile: OME-TIFF, strips, unusual compressions."""

import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from dtcwsi.errors import SlideError, first_line
from dtcwsi.slides.sampling import SampledReader
from dtcwsi.slides.spacing import resolve_spacing
from dtcwsi.slides.tiles import TiledPages
from dtcwsi.types import SlideInfo

__all__ = ["TiffReader", "check_colours"]

_UM_PER_OME_UNIT = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25_400.0
}  # fmt: skip
_UM_PER_TIFF_UNIT = {2: 25_400.0, 3: 10_000.0}
_WHITE_IS_0, _BLACK_IS_0, _RGB, _YCBCR = 0, 1, 2, 6


class TiffReader(SampledReader):
    """An open TIFF whose tiles or strips are decoded as they are asked for; see `dtcwsi.types.SlideReader`.

    Of several images in the file the largest is the slide. Memory: that of `TiledPages`; a file stored as one
    compressed strip is decoded whole.
    Raises: SlideError if the file is cut off or not 8-bit RGB; SpacingError if no um/px is known.
    """

    def __init__(self, path: Path, *, spacing_um: float | None = None, override: bool = False) -> None:
        try:
            self._tiff = tifffile.TiffFile(path)
        except Exception as error:  # noqa: BLE001 - damaged files make tifffile raise errors of every kind
            raise _unopenable(path, error) from error
        try:
            _check_listed(path, self._tiff)
            self._levels = _levels(self._tiff)
            self._info = self._describe(path, spacing_um, override=override)
            self._tiles = TiledPages(path, self._tiff, self._levels)
        except SlideError:
            self._tiff.close()
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._tiff.close()
            raise _unopenable(path, error) from error

    @staticmethod
    def reads(path: Path) -> bool:
        """Whether the file begins as a TIFF does."""
        with path.open("rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()

    def _describe(self, path: Path, given_um: float | None, *, override: bool) -> SlideInfo:
        page = self._levels[0]
        interleaved = page.samplesperpixel in (3, 4) and page.planarconfig == 1 and page.photometric in (_RGB, _YCBCR)
        if page.dtype != np.uint8 or not interleaved:
            raise _no_rgb(path, page)
        _check_whole(path, self._levels)
        recorded = _ome_spacing(self._tiff, page) or _tag_spacing(page)
        return SlideInfo(
            slide_id=path.stem,
            path=path,
            width_px=page.imagewidth,
            height_px=page.imagelength,
            spacing_um=resolve_spacing(path.name, recorded, given_um, override=override),
            level_downsamples=tuple(page.imagewidth / level.imagewidth for level in self._levels),
            reader="tiff",
        )

    def _read_level(
        self, level: int, top_left_level0: tuple[int, int], level_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        whole, page = self._levels[0], self._levels[level]  # rounded sizes differ across and down
        left = round(top_left_level0[0] * page.imagewidth / whole.imagewidth)
        top = round(top_left_level0[1] * page.imagelength / whole.imagelength)
        return self._tiles.read(level, left, top, *level_size)


def check_colours(path: Path) -> None:
    """Make sure that a TIFF which OpenSlide opens as it opens any has colours.  Raises: SlideError if it is grey."""
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            grey = page.photometric in (_WHITE_IS_0, _BLACK_IS_0)
    except Exception:  # noqa: BLE001 - whatever tifffile does not understand, OpenSlide did
        return
    if grey:
        raise _no_rgb(path, page)


def _no_rgb(path: Path, page: Any) -> SlideError:
    got = f"{page.dtype} with {page.samplesperpixel} channel{'s' * (page.samplesperpixel != 1)} a pixel"
    return SlideError(f"{path.name!r} holds {got}; expected interleaved 8-bit RGB: convert it to RGB")


def _check_listed(path: Path, tiff: tifffile.TiffFile) -> None:
    """Make sure that the file's last picture lies inside it.  Raises: SlideError if the file was cut off before."""
    place = tiff.pages.next_page_offset
    if not place:
        return
    tiff.filehandle.seek(place)
    stored = tiff.filehandle.read(tiff.tiff.offsetsize)
    (next_page,) = struct.unpack(tiff.tiff.offsetformat, stored.ljust(tiff.tiff.offsetsize, b"\0"))
    if next_page:
        _check_size(path, next_page + tiff.tiff.tagnosize)


def _levels(tiff: tifffile.TiffFile) -> list[Any]:
    """The pages of the largest image, full size first."""
    series = max(tiff.series, key=lambda one: one.keyframe.imagewidth * one.keyframe.imagelength)
    return [level.keyframe for level in series.levels]


def _check_whole(path: Path, levels: list[Any]) -> None:
    """Make sure that every tile lies inside the file.  Raises: SlideError if the file was cut off."""
    ends = [int(np.max(np.add(page.dataoffsets, page.databytecounts), initial=0)) for page in levels]
    _check_size(path, max(ends))


def _check_size(path: Path, least: int) -> None:
    size = path.stat().st_size
    if size < least:
        raise SlideError(
            f"{path.name!r} ends after {size:,} bytes; expected at least {least:,}: the file is cut off, copy it again"
        )


def _ome_spacing(tiff: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    """The um/px (x, y) of the image as large as ``page``, else of the first; None if it is absent or no number."""
    try:
        elements = list(ElementTree.fromstring(tiff.ome_metadata or "<OME/>").iter())
        images = [pixels.attrib for pixels in elements if pixels.tag.endswith("}Pixels")]
        size = (str(page.imagewidth), str(page.imagelength))
        images.sort(key=lambda found: (found.get("SizeX"), found.get("SizeY")) != size)
        across = _ome_length(images[0], "PhysicalSizeX")
        return across, _ome_length(images[0], "PhysicalSizeY") if "PhysicalSizeY" in images[0] else across
    except (ElementTree.ParseError, KeyError, ValueError, IndexError):
        return None


def _ome_length(pixels: dict[str, str], name: str) -> float:
    return float(pixels[name]) * _UM_PER_OME_UNIT[pixels.get(f"{name}Unit", "µm")]


def _tag_spacing(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = _UM_PER_TIFF_UNIT.get(int(page.tags.valueof("ResolutionUnit", default=1)))
    across, down = page.tags.valueof("XResolution"), page.tags.valueof("YResolution")
    if unit is None or not across or not down or not across[0] or not down[0]:
        return None
    return unit * across[1] / across[0], unit * down[1] / down[0]


def _unopenable(path: Path, error: Exception) -> SlideError:
    return SlideError(f"{path.name!r} cannot be opened ({first_line(error)}); expected a whole TIFF: copy it again")
