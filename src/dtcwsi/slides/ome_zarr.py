"""OME-Zarr: a slide that is a folder of chunks, through zarr."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import SlideError, first_line
from dtcwsi.slides.blocks import BlockedLevel, Blocks
from dtcwsi.slides.sampling import SampledReader
from dtcwsi.slides.spacing import resolve_spacing
from dtcwsi.types import SlideInfo

__all__ = ["ZARR_SUFFIX", "OmeZarrReader"]

ZARR_SUFFIX = ".zarr"

_UM_PER_UNIT = {
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "angstrom": 1e-4,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_RGB, _MOST_CHANNELS = 3, 4


class OmeZarrReader(SampledReader):
    """The image of an OME-Zarr of version 0.4 or 0.5; see `dtcwsi.types.SlideReader`.

    Of several images, as bioformats2raw lays them out, the largest is the slide. Chunks that were never written are
    what the array's fill value says. Memory: that of `Blocks`.
    Raises: SlideError if zarr is not installed, the folder holds no such image, or it is not 8-bit RGB of one focal
    plane and time; SpacingError if no um/px is known.
    """

    def __init__(self, path: Path, *, spacing_um: float | None = None, override: bool = False) -> None:
        self._path = path
        try:
            found, self._arrays = _image(path)
            self._axes = [axis["name"] for axis in found["axes"]]
            sizes = [dict(zip(self._axes, array.shape, strict=True)) for array in self._arrays]
            chunks = [dict(zip(self._axes, array.chunks, strict=True)) for array in self._arrays]
            recorded = _spacing(found)
        except SlideError:
            raise
        except Exception as error:  # noqa: BLE001 - damaged folders make zarr raise errors of every kind
            what = first_line(error)
            raise SlideError(f"{path.name!r} is no OME-Zarr image ({what}); copy or convert it again") from error
        self._check(sizes[0])
        self._info = SlideInfo(
            slide_id=path.stem,
            path=path,
            width_px=sizes[0]["x"],
            height_px=sizes[0]["y"],
            spacing_um=resolve_spacing(path.name, recorded, spacing_um, override=override),
            level_downsamples=tuple(sizes[0]["x"] / size["x"] for size in sizes),
            reader="ome-zarr",
        )
        self._levels = [
            BlockedLevel(size["x"], size["y"], chunk["x"], chunk["y"])
            for size, chunk in zip(sizes, chunks, strict=True)
        ]
        self._blocks = Blocks(self._levels, self._decoded)

    @staticmethod
    def reads(path: Path) -> bool:
        """Whether the path is a folder with the metadata of a Zarr group."""
        return any((path / name).is_file() for name in (".zgroup", "zarr.json"))

    def close(self) -> None:
        """Nothing stays open between reads."""

    def _check(self, size: dict[str, int]) -> None:
        kind, channels = self._arrays[0].dtype, size.get("c", 1)
        if kind != np.uint8 or channels not in (_RGB, _MOST_CHANNELS):
            got = f"{kind} with {channels} channels a pixel"
            raise SlideError(f"{self._path.name!r} holds {got}; expected 8-bit RGB: convert it to RGB")
        several = [f"{size[axis]} along {axis}" for axis in self._axes if axis not in "cyx" and size[axis] > 1]
        if several:
            raise SlideError(
                f"{self._path.name!r} has {' and '.join(several)}; expected one focal plane and time: export one"
            )

    def _read_level(
        self, level: int, top_left_level0: tuple[int, int], level_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        whole, size = self._levels[0], self._levels[level]  # rounded sizes differ across and down
        left = round(top_left_level0[0] * size.width / whole.width)
        top = round(top_left_level0[1] * size.height / whole.height)
        return self._blocks.read(level, left, top, *level_size)

    def _decoded(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        array = self._arrays[level]
        place = {"y": row, "x": column}
        box = [
            slice(place[axis] * chunk, (place[axis] + 1) * chunk) if axis in place else slice(None)
            for axis, chunk in zip(self._axes, array.chunks, strict=True)
        ]
        try:
            block = np.asarray(array[tuple(box)])
        except Exception as error:  # noqa: BLE001 - each codec has its own errors
            raise SlideError(
                f"{self._path.name!r} cannot be decoded in chunk ({row}, {column}) of level {level} "
                f"({first_line(error)}); the folder is damaged: copy it again"
            ) from error
        order = [self._axes.index(axis) for axis in "yxc"]
        rest = [number for number in range(len(self._axes)) if number not in order]
        pixels = block.transpose(*rest, *order).reshape(*(block.shape[number] for number in order))
        return np.ascontiguousarray(pixels[..., :_RGB])


def _image(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The multiscale record of the largest image and its arrays, full size first."""
    try:
        import zarr
    except ImportError as error:
        raise SlideError(
            f"{path.name!r} is an OME-Zarr, which needs the package zarr; install it with pip install 'dtcwsi[zarr]'"
        ) from error
    root: Any = zarr.open_group(path, mode="r")
    images = [group for group in (root, *(group for _, group in root.groups())) if _multiscales(group)]
    if not images:
        raise SlideError(
            f"{path.name!r} has no multiscale image; expected the metadata of OME-Zarr 0.4 or 0.5: convert it again"
        )
    found = [(_multiscales(group)[0], group) for group in images]
    opened = [(record, [group[level["path"]] for level in record["datasets"]]) for record, group in found]
    return max(opened, key=lambda image: math.prod(image[1][0].shape))


def _multiscales(group: Any) -> list[dict[str, Any]]:
    attributes = group.attrs.asdict()
    found: list[dict[str, Any]] = attributes.get("ome", attributes).get("multiscales", [])
    return found


def _spacing(record: dict[str, Any]) -> tuple[float, float] | None:
    """The um/px (x, y) of the full size; None if it has no known unit of length."""
    scale = dict.fromkeys("xy", 1.0)
    names = [axis["name"] for axis in record["axes"]]
    scaled = False
    for given in (record["datasets"][0], record):
        for step in given.get("coordinateTransformations", ()):
            if step["type"] == "scale":
                scaled = True
                scale = {axis: scale[axis] * float(step["scale"][names.index(axis)]) for axis in scale}
    units = {axis["name"]: _UM_PER_UNIT.get(axis.get("unit")) for axis in record["axes"]}
    across, down = units["x"], units["y"]
    if not scaled or across is None or down is None:
        return None
    return scale["x"] * across, scale["y"] * down
