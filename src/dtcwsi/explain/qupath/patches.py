"""Patches as tables: CSV for people and scripts, GeoJSON for QuPath."""

import csv
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.explain.figures.painting import FATE_COLOURS
from dtcwsi.store.atomic import beside

__all__ = ["write_patches_csv", "write_patches_geojson"]

_COLUMNS = ("patch", "x", "y", "size", "attention", "attention_percentile", "fate", "stage", "token")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "dtcwsi patch")


def write_patches_csv(path: Path, coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates) -> None:
    """Write one row a patch; ``x``, ``y`` and ``size`` are level-0 pixels, ``token`` is -1 and ``stage`` 0 for none.

    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    with beside(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        size = _whole(patch_size_level0)
        for index, (x, y), fate, stage, token, attention, percentile in _rows(coords, fates):
            row = (index, x, y, size, f"{attention:.6g}", f"{percentile:.2f}", FATES[fate], stage, token)
            writer.writerow(row)


def write_patches_geojson(
    path: Path, slide_id: str, coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates
) -> None:
    """Write one QuPath detection a patch, classified kept, merged or pruned, one feature a line.

    The id of a patch depends on the slide, its index and its place alone, so that a later file replaces the objects.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    with beside(path) as part, part.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(_features(slide_id, coords, patch_size_level0, fates)):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(feature, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")


def _features(
    slide_id: str, coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates
) -> Iterator[dict[str, Any]]:
    size = _whole(patch_size_level0)
    slide_id = slide_id.encode(errors="backslashreplace").decode()  # file names need not be UTF-8
    classes = [{"name": name, "color": list(FATE_COLOURS[name])} for name in FATES]
    for index, (x, y), fate, stage, token, attention, percentile in _rows(coords, fates):
        ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{slide_id}/{index}/{x},{y}")),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "detection",
                "name": f"patch {index}",
                "classification": classes[fate],
                "isLocked": True,
                "measurements": {
                    "attention": float(f"{attention:.6g}"),
                    "attention percentile": round(percentile, 2),
                    "stage": stage,
                    "token": token,
                },
            },
        }


def _rows(coords: NDArray[np.int64], fates: PatchFates) -> Iterator[tuple[int, list[int], int, int, int, float, float]]:
    return zip(
        range(len(fates)),
        coords.tolist(),
        fates.fate.tolist(),
        fates.stage.tolist(),
        fates.token.tolist(),
        fates.attention.tolist(),
        fates.percentile.tolist(),
        strict=True,
    )


def _whole(size: float) -> float | int:
    return int(size) if float(size).is_integer() else float(size)
