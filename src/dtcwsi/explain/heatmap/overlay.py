"""A heatmap as a pyramidal TIFF that lies on its slide: 16 level-0 pixels a pixel, transparent where no patch is.

Every level is made from the patches themselves, so none drifts from the slide; one tile is in memory at a time.
"""

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from dtcwsi.explain.heatmap.blending import Frame, HeatLayer, blend
from dtcwsi.explain.heatmap.colours import paint_transparent
from dtcwsi.store.atomic import beside

__all__ = ["OVERLAY_PIXEL_LEVEL0", "write_overlay"]

OVERLAY_PIXEL_LEVEL0 = 16
_TILE_PX = 512
_FEWEST_LEVELS, _SMALL_PX = 3, 512
_MICRONS_PER_CENTIMETRE = 10_000.0
_EFFORT = 1


def write_overlay(
    path: Path,
    layer: HeatLayer,
    size_level0: tuple[int, int],
    *,
    spacing_um: float | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Write an RGBA TIFF over a slide of ``size_level0`` (width, height), in register from its top-left corner.

    Levels are each exactly half of the one before, at least three and down to 512 px; for that the file may reach over
    the slide's right and lower rims, by less than one pixel of its smallest level, where it is transparent.
    ``spacing_um`` of a level-0 pixel gives the resolution tags. ``about`` goes into the first ImageDescription as JSON,
    with ``pixel_level0``. Lossless (deflate), so that colours can be read back as heat.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    frames = _levels(size_level0)
    told = json.dumps({**(about or {}), "pixel_level0": OVERLAY_PIXEL_LEVEL0, "size_level0": list(size_level0)})
    with beside(path) as part, tifffile.TiffWriter(part, bigtiff=False) as tiff:
        for level, frame in enumerate(frames):
            scale = None if spacing_um is None else _MICRONS_PER_CENTIMETRE / (spacing_um * frame.pixel_level0)
            tiff.write(
                _tiles(layer, frame),
                shape=(frame.height, frame.width, 4),
                dtype=np.uint8,
                photometric="rgb",
                extrasamples=["unassalpha"],
                compression="zlib",
                tile=(_TILE_PX, _TILE_PX),
                resolution=None if scale is None else (scale, scale),
                resolutionunit="NONE" if scale is None else "CENTIMETER",
                subfiletype=1 if level else 0,
                description=None if level else told,
                software="dtcwsi",
                metadata=None,
            )


def _levels(size_level0: tuple[int, int]) -> list[Frame]:
    """Lay out the levels: sizes of whole multiples of the smallest level's pixel."""
    sides = [math.ceil(side / OVERLAY_PIXEL_LEVEL0) for side in size_level0]
    levels = max(_FEWEST_LEVELS, 1 + math.ceil(math.log2(max(1, max(sides) / _SMALL_PX))))
    width, height = (-(-side // 2 ** (levels - 1)) * 2 ** (levels - 1) for side in sides)
    return [Frame(width >> level, height >> level, OVERLAY_PIXEL_LEVEL0 * 2.0**level) for level in range(levels)]


def _tiles(layer: HeatLayer, frame: Frame) -> Iterator[bytes]:
    """Encode a level's tiles from left to right and top to bottom."""
    bare = zlib.compress(bytes(4 * _TILE_PX**2), _EFFORT)
    for top in range(0, frame.height, _TILE_PX):
        for left in range(0, frame.width, _TILE_PX):
            blended = blend(layer, frame.part(left, top, _TILE_PX, _TILE_PX))
            yield zlib.compress(paint_transparent(blended).data, _EFFORT) if blended.cover.any() else bare
