"""Tissue contours on disk: GeoJSON in level-0 pixels that QuPath opens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.store.atomic import write_text
from dtcwsi.types import Polygon, TissueMask

_BEGINS = '{"dtcwsi": '
_HEAD_BYTES = 16_384

__all__ = ["peek_provenance", "read_contours", "read_provenance", "write_contours"]


def write_contours(path: Path, mask: TissueMask, provenance: dict[str, Any]) -> None:
    """Write a tissue mask as GeoJSON; ``provenance`` (digest, parameters) goes beside the features.

    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring) for ring in (piece.outer, *piece.holes)]},
            "properties": {"objectType": "annotation", "tissue_id": index, "classification": {"name": "Tissue"}},
        }
        for index, piece in enumerate(mask.polygons)
    ]
    content = {
        "type": "FeatureCollection",
        "features": features,
        "dtcwsi": {**provenance, "area_um2": mask.area_um2, **({"may_overlap": True} if mask.may_overlap else {})},
    }
    write_text(path, json.dumps(content, sort_keys=True) + "\n")


def read_contours(path: Path) -> TissueMask:
    """Read a tissue mask back.  Raises: OSError, ValueError if the file is absent or not GeoJSON."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rings = [[np.asarray(ring[:-1], float) for ring in item["geometry"]["coordinates"]] for item in content["features"]]
    polygons = tuple(Polygon(outer, tuple(holes)) for outer, *holes in rings)
    made = content["dtcwsi"]
    return TissueMask(polygons, float(made["area_um2"]), may_overlap=bool(made.get("may_overlap")))


def read_provenance(path: Path) -> dict[str, Any]:
    """Read what made a contour file; nothing if it is absent or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["dtcwsi"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def peek_provenance(path: Path) -> dict[str, Any]:
    """Read what made a contour file from its beginning alone: quick whatever the outlines.

    As `read_provenance`, but damage in the outlines is not noticed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode(errors="ignore")
        if head.startswith(_BEGINS):
            found = json.JSONDecoder().raw_decode(head, len(_BEGINS))[0]
            return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return read_provenance(path)  # longer than the beginning, perhaps
    return read_provenance(path)


def _closed(ring: NDArray[np.float64]) -> list[list[float]]:
    points: list[list[float]] = np.round(ring, 2).tolist()
    return [*points, points[0]]
