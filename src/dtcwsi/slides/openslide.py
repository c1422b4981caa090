"""Slides through OpenSlide: SVS, NDPI, MRXS, SCN, BIF, DICOM, generic pyramidal TIFF."""

from pathlib import Path

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from dtcwsi.errors import SlideError
from dtcwsi.slides.sampling import sample
from dtcwsi.slides.spacing import resolve_spacing
from dtcwsi.types import SlideInfo

__all__ = ["OpenSlideReader"]

_UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}


class OpenSlideReader:
    """An open OpenSlide handle; see `dtcwsi.types.SlideReader`.

    Raises: SlideError if the file is cut off or damaged; SpacingError if no um/px is known.
    """

    def __init__(self, path: Path, *, spacing_um: float | None = None, override: bool = False) -> None:
        try:
            self._slide = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{path.name!r} cannot be opened ({error}); expected a whole slide: copy it again"
            ) from error
        try:
            spacing = resolve_spacing(path.name, _recorded(self._slide.properties), spacing_um, override=override)
        except SlideError:
            self._slide.close()
            raise
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

    @property
    def info(self) -> SlideInfo:
        """The slide's size, resolution and levels."""
        return self._info

    def read(
        self, top_left_level0: tuple[int, int], size_level0: tuple[int, int], size_px: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Read a box of level-0 pixels; see `dtcwsi.types.SlideReader.read`."""
        return sample(self._read_level, self._info.level_downsamples, top_left_level0, size_level0, size_px)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()

    def _read_level(
        self, level: int, top_left_level0: tuple[int, int], level_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        try:
            rgba = np.asarray(self._slide.read_region(top_left_level0, level, level_size))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self._info.path.name!r} cannot be decoded near level-0 pixel {top_left_level0} ({error}); "
                "the file is damaged or cut off: copy it again"
            ) from error
        rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
        outside = rgba[..., 3] == 0
        if outside.any():
            rgb[outside] = 255
        return rgb


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
