"""TIFFs that OpenSlide does not read, through tifffile: OME-TIFF, strips, unusual compressions."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from dtcwsi.errors import SlideError
from dtcwsi.slides.sampling import sample
from dtcwsi.slides.spacing import resolve_spacing
from dtcwsi.types import SlideInfo

__all__ = ["TiffReader"]

_UM_PER_OME_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_UM_PER_TIFF_UNIT = {2: 25_400.0, 3: 10_000.0}


class TiffReader:
    """An open TIFF whose tiles or strips are decoded as they are asked for; see `dtcwsi.types.SlideReader`.

    Memory: the segments under the box read; a file stored as one compressed strip is decoded whole.
    Raises: SlideError if the file is cut off or not 8-bit RGB; SpacingError if no um/px is known.
    """

    def __init__(self, path: Path, *, spacing_um: float | None = None, override: bool = False) -> None:
        try:
            self._tiff = tifffile.TiffFile(path)
            self._levels = [level.keyframe for level in self._tiff.series[0].levels]
        except (tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
            raise SlideError(
                f"{path.name!r} cannot be opened ({error}); expected a whole TIFF: copy it again"
            ) from error
        try:
            self._info = self._describe(path, spacing_um, override=override)
        except SlideError:
            self._tiff.close()
            raise

    @staticmethod
    def reads(path: Path) -> bool:
        """Whether tifffile knows the format."""
        try:
            with tifffile.TiffFile(path) as tiff:
                return len(tiff.series) > 0
        except (tifffile.TiffFileError, OSError, ValueError):
            return False

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
        self._tiff.close()

    def _describe(self, path: Path, given_um: float | None, *, override: bool) -> SlideInfo:
        page = self._levels[0]
        if page.dtype != np.uint8 or page.samplesperpixel not in (3, 4) or page.planarconfig != 1:
            got = f"{page.dtype} with {page.samplesperpixel} channels"
            raise SlideError(f"{path.name!r} holds {got}; expected interleaved 8-bit RGB: convert it to RGB")
        recorded = _ome_spacing(self._tiff) or _tag_spacing(page)
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
        page, scale = self._levels[level], self._info.level_downsamples[level]
        left, top = (round(edge / scale) for edge in top_left_level0)
        width, height = level_size
        box = np.full((height, width, 3), 255, np.uint8)
        rows, columns = page.chunks[:2]
        across = -(-page.imagewidth // columns)
        for row in range(max(0, top) // rows, -(-min(top + height, page.imagelength) // rows)):
            for column in range(max(0, left) // columns, -(-min(left + width, page.imagewidth) // columns)):
                segment = self._segment(page, row * across + column)
                if segment is not None:
                    _paste(box, segment, row * rows - top, column * columns - left)
        return box

    def _segment(self, page: tifffile.TiffPage, index: int) -> NDArray[np.uint8] | None:
        """Decode one tile or strip, cropped to the picture; None where the file stores an empty one."""
        handle = self._tiff.filehandle
        try:
            handle.seek(page.dataoffsets[index])
            stored = handle.read(page.databytecounts[index])
            if len(stored) < page.databytecounts[index]:
                raise ValueError("the file ends early")
            decoded, _, shape = page.decode(stored, index, jpegtables=page.jpegtables)
        except (ValueError, RuntimeError, OSError, IndexError) as error:
            raise SlideError(
                f"{self._info.path.name!r} cannot be decoded in tile {index} ({error}); "
                "the file is damaged or cut off: copy it again"
            ) from error
        if decoded is None:
            return None
        return np.asarray(decoded)[0, : shape[1], : shape[2], :3]


def _paste(box: NDArray[np.uint8], segment: NDArray[np.uint8], top: int, left: int) -> None:
    """Copy what a segment at (top, left) shares with the box."""
    bottom, right = min(top + segment.shape[0], box.shape[0]), min(left + segment.shape[1], box.shape[1])
    if bottom > max(top, 0) and right > max(left, 0):
        part = segment[max(0, -top) : bottom - top, max(0, -left) : right - left]
        box[max(top, 0) : bottom, max(left, 0) : right] = part


def _ome_spacing(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    if not tiff.ome_metadata:
        return None
    for pixels in ElementTree.fromstring(tiff.ome_metadata).iter():
        if pixels.tag.endswith("}Pixels") and "PhysicalSizeX" in pixels.attrib:
            across = float(pixels.attrib["PhysicalSizeX"]) * _UM_PER_OME_UNIT.get(
                pixels.attrib.get("PhysicalSizeXUnit", "µm"), float("nan")
            )
            down = float(pixels.attrib.get("PhysicalSizeY", pixels.attrib["PhysicalSizeX"])) * _UM_PER_OME_UNIT.get(
                pixels.attrib.get("PhysicalSizeYUnit", "µm"), float("nan")
            )
            return across, down
    return None


def _tag_spacing(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = _UM_PER_TIFF_UNIT.get(int(page.tags.valueof("ResolutionUnit", default=1)))
    across, down = page.tags.valueof("XResolution"), page.tags.valueof("YResolution")
    if unit is None or not across or not down or not across[0] or not down[0]:
        return None
    return unit * across[1] / across[0], unit * down[1] / down[0]
