"""Slides through OpenSlide: SVS, NDPI, MRXS, SCN, BIF, DICOM, generic pyramidal TIFF."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

from dtcwsi.errors import SlideError
from dtcwsi.slides.sampling import SampledReader
from dtcwsi.slides.spacing import resolve_spacing
from dtcwsi.slides.tiff import check_colours
from dtcwsi.slides.tiles import DoubtfulTileError, TiledPages, decodes_straight
from dtcwsi.types import SlideInfo

__all__ = ["OpenSlideReader"]

_ANY_TIFF = "generic-tiff"
_STRAIGHT = ("aperio", _ANY_TIFF)
_BETWEEN_PX = 1 / 256
_UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}


class OpenSlideReader(SampledReader):
    """An open OpenSlide handle; see `dtcwsi.types.SlideReader`.

    Of Aperio's files and generic TIFFs the tiles that need no more than their own bytes are decoded by `TiledPages`,
    which gives the same pixels several times faster; OpenSlide reads all else, and boxes between a level's pixels.
    Raises: SlideError if the file is cut off or damaged, or a TIFF of grey levels; SpacingError if no um/px is known.
    """

    def __init__(self, path: Path, *, spacing_um: float | None = None, override: bool = False) -> None:
        try:
            self._slide = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{path.name!r} cannot be opened ({error}); expected a whole slide: copy it again"
            ) from error
        vendor = self._slide.properties.get(openslide.PROPERTY_NAME_VENDOR)
        try:
            if vendor == _ANY_TIFF:
                check_colours(path)
            spacing = resolve_spacing(path.name, _recorded(self._slide.properties), spacing_um, override=override)
        except SlideError:
            self._slide.close()
            raise
        self._straight: _Straight | None = None
        self._tries_straight = vendor in _STRAIGHT
        width, height = self._slide.dimensions
        self._info = SlideInfo(
            slide_id=path.stem,
            path=path,
            width_px=width,
            height_px=height,
            spacing_um=spacing,
            level_downsamples=tuple(float(value) for value in self._slide.level_downsamples),
            reader="openslide",
        )

    @staticmethod
    def reads(path: Path) -> bool:
        """Whether OpenSlide knows the format."""
        return openslide.OpenSlide.detect_format(str(path)) is not None

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
        if self._straight is not None:
            self._straight.close()

    def _read_level(
        self, level: int, top_left_level0: tuple[int, int], level_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        straight = self._straight_read(level, top_left_level0, level_size)
        if straight is not None:
            return straight
        try:
            rgba = np.asarray(self._slide.read_region(top_left_level0, level, level_size))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self._info.path.name!r} cannot be decoded in the {level_size[0]} x {level_size[1]} px of level "
                f"{level} from level-0 pixel {top_left_level0} on ({error}); "
                "the file is damaged or cut off: copy it again"
            ) from error
        rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
        outside = rgba[..., 3] == 0
        if outside.any():
            rgb[outside] = 255
        return rgb

    def _straight_read(
        self, level: int, top_left_level0: tuple[int, int], level_size: tuple[int, int]
    ) -> NDArray[np.uint8] | None:
        if not self._tries_straight:
            return None
        scale = self._info.level_downsamples[level]
        left, top = (edge / scale for edge in top_left_level0)
        if max(abs(left - round(left)), abs(top - round(top))) > _BETWEEN_PX:
            return None
        if self._straight is None:
            try:
                self._straight = _Straight(self._info.path, self._slide.level_dimensions)
            except Exception:  # noqa: BLE001 - whatever tifffile does not understand, OpenSlide did
                self._tries_straight = False
                return None
        return self._straight.read(level, round(left), round(top), level_size)


class _Straight:
    """The levels of a TIFF whose tiles can be decoded straight: pages that OpenSlide sees, by their size."""

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        self._tiff = tifffile.TiffFile(path)
        try:
            tiled: dict[tuple[int, int], tifffile.TiffPage] = {}
            for page in self._tiff.pages:
                if isinstance(page, tifffile.TiffPage) and decodes_straight(page):
                    tiled.setdefault((page.imagewidth, page.imagelength), page)
            there = [level for level, size in enumerate(sizes) if size in tiled]
            self._number_of = {level: number for number, level in enumerate(there)}
            self._pages = TiledPages(path, self._tiff, [tiled[sizes[level]] for level in there], doubts=True)
        except BaseException:
            self._tiff.close()
            raise

    def read(self, level: int, left: int, top: int, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Read a box; None if the level is not one of these, or a tile may be damaged, which OpenSlide will tell."""
        number = self._number_of.get(level)
        try:
            return None if number is None else self._pages.read(number, left, top, *size)
        except DoubtfulTileError:
            return None

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()


def _recorded(properties: openslide.OpenSlide) -> tuple[float, float] | None:
    """The um/px that the file records (x, y), from its vendor's field or the TIFF resolution tags."""
    try:
        return float(properties[openslide.PROPERTY_NAME_MPP_X]), float(properties[openslide.PROPERTY_NAME_MPP_Y])
    except (KeyError, ValueError):
        unit = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    try:
        across, down = float(properties["tiff.XResolution"]), float(properties["tiff.YResolution"])
    except (KeyError, ValueError):
        return None
    return (unit / across, unit / down) if unit and across > 0 and down > 0 else None
