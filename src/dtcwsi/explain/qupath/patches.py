"""Patches as QuPath detections, one a patch with all that is measured of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.explain.figures.painting import FATE_COLOURS
from dtcwsi.explain.patch_table import measurements, whole
from dtcwsi.explain.qupath.objects import object_id, write_objects

__all__ = ["write_patches_geojson"]


def write_patches_geojson(
    path: Path,
    slide_id: str,
    coords: NDArray[np.int64],
    patch_size_level0: float,
    fates: PatchFates,
    *,
    about: dict[str, Any] | None = None,
) -> None:
    """Write one QuPath detection a patch, classified kept, merged or pruned, one feature a line.

    Measurements: attention, attention percentile, stage, token and, where the model scores patches, importance and
    mass. The id of a patch depends on the slide, its index and its place alone, so that a later file replaces the
    objects. ``about`` becomes the collection's member ``dtcwsi``, as in `write_objects`.
    A ``path`` that ends in ``.gz`` is compressed.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    write_objects(path, _features(slide_id, coords, patch_size_level0, fates), about)


def _features(
    slide_id: str, coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates
) -> Iterator[dict[str, Any]]:
    size = whole(patch_size_level0)
    classes = [{"name": name, "color": list(FATE_COLOURS[name])} for name in FATES]
    measured = {name.replace("_", " "): values.tolist() for name, values in measurements(fates).items()}
    names = (*measured, "stage", "token")
    values = zip(*measured.values(), fates.stage.tolist(), fates.token.tolist(), strict=True)
    for index, ((x, y), fate, row) in enumerate(zip(coords.tolist(), fates.fate.tolist(), values, strict=True)):
        ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
        yield {
            "type": "Feature",
            "id": object_id(f"{slide_id}/{index}/{x},{y}"),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "detection",
                "name": f"patch {index}",
                "classification": classes[fate],
                "isLocked": True,
                "measurements": dict(zip(names, map(_short, row), strict=True)),
            },
        }


def _short(value: float) -> float:
    """Keep six significant digits: more would only make the file longer."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
