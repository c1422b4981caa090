"""Outlines that another tool or a person drew: a file a slide, and its GeoJSON as polygons in level-0 pixels."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import SlideError
from dtcwsi.store.digest import content_digest
from dtcwsi.types import Polygon, SlideInfo

__all__ = ["GEOJSON_SUFFIXES", "Outline", "OutlineFile", "check_unchanged", "find_outline", "read_outlines"]

GEOJSON_SUFFIXES = (".geojson", ".json")
_REACH_BEYOND = 0.1
"""Share of a side by which a hand may draw beyond the slide; an outline that lies farther out is of another scale."""


@dataclass(frozen=True)
class OutlineFile:
    """A slide's file of outlines and the digest of its content."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Outline:
    """One drawn area and the names of its classification, none if it has none."""

    polygon: Polygon
    classes: tuple[str, ...] = ()


def find_outline(folder: Path, slide_id: str, suffixes: Sequence[str]) -> OutlineFile:
    """Find the file of a slide in a folder by its name, ``slide_id`` and one of ``suffixes``.

    Raises: SlideError if there is none, or several, or it cannot be read.
    """
    there = [path for path in (folder / f"{slide_id}{suffix}" for suffix in suffixes) if path.is_file()]
    if not there:
        raise SlideError(
            f"{slide_id!r} has no file in {folder}; expected {slide_id} with the suffix {' or '.join(suffixes)}: "
            "add it, or leave the slide out"
        )
    if len(there) > 1:
        names = ", ".join(path.name for path in there)
        raise SlideError(f"{slide_id!r} has {len(there)} files in {folder} ({names}); expected one: remove the others")
    try:
        return OutlineFile(there[0], content_digest(there[0]))
    except OSError as error:
        raise SlideError(f"{there[0]} cannot be read ({error.strerror}); check its permissions") from error


def read_outlines(file: OutlineFile, info: SlideInfo) -> list[Outline]:
    """Read the polygons of a GeoJSON in level-0 pixels; lines and points in it are passed over.

    A FeatureCollection, a Feature, a bare geometry or a list of these, as QuPath, TRIDENT and `extract` write them;
    a MultiPolygon gives an outline a polygon. A collection without entries is a slide without outlines.
    Raises: SlideError if the file is another by now, is no GeoJSON, has entries but no polygon, or reaches far beyond
    the slide.
    """
    check_unchanged(file)
    name = file.path.name
    try:
        content = json.loads(file.path.read_text(encoding="utf-8"))
        entries = list(_entries(content))
        outlines = [outline for entry in entries for outline in _outlines(entry)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        what = " ".join(str(error).split())[:120]
        raise SlideError(
            f"{name!r} is no GeoJSON of polygons ({type(error).__name__}: {what}); export it again"
        ) from error
    if entries and not outlines:
        raise SlideError(
            f"{name!r} has no polygon among its entries ({len(entries)}); expected areas: export the outlines again"
        )
    _check_scale(name, outlines, info)
    return outlines


def check_unchanged(file: OutlineFile) -> None:
    """Make sure that a file still is what its digest says.  Raises: SlideError if not, or if it is gone."""
    try:
        now = content_digest(file.path)
    except OSError as error:
        raise SlideError(
            f"{file.path} cannot be read ({error.strerror}); put it back, or cut the slide anew"
        ) from error
    if now != file.digest:
        raise SlideError(f"{file.path} is not what the slide was cut with; run `dtcwsi patch` (or extract) again")


def _entries(content: Any) -> Iterator[dict[str, Any]]:
    """Features and bare geometries, one by one."""
    if isinstance(content, list):
        for item in content:
            yield from _entries(item)
    elif content["type"] == "FeatureCollection":
        yield from _entries(content["features"])
    elif content["type"] == "GeometryCollection":
        yield from _entries(content["geometries"])
    else:
        yield content


def _outlines(entry: dict[str, Any]) -> Iterator[Outline]:
    is_feature = entry["type"] == "Feature"
    geometry = entry["geometry"] if is_feature else entry
    classes = _classes((entry.get("properties") or {}).get("classification")) if is_feature else ()
    if geometry is None:
        return
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from (Outline(found.polygon, classes) for found in _outlines(part))
        return
    polygons = {"Polygon": lambda rings: [rings], "MultiPolygon": list}.get(geometry["type"])
    for rings in polygons(geometry["coordinates"]) if polygons else ():
        outer, *holes = map(_ring, rings)
        if len(outer) >= 3:
            yield Outline(Polygon(outer, tuple(hole for hole in holes if len(hole) >= 3)), classes)


def _ring(points: Any) -> NDArray[np.float64]:
    """A ring's points (x, y), not closed; a third coordinate is dropped."""
    ring = np.array([point[:2] for point in points], np.float64).reshape(-1, 2)
    if not np.isfinite(ring).all():
        raise ValueError("a coordinate is not finite")
    return ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring


def _classes(classification: Any) -> tuple[str, ...]:
    """The names of a QuPath classification: a text, or a record with ``name``, in newer versions ``names``."""
    if isinstance(classification, dict):
        found = [classification.get("name"), *(classification.get("names") or ())]
        return tuple(dict.fromkeys(str(name) for name in found if name is not None))
    return () if classification is None else (str(classification),)


def _check_scale(name: str, outlines: list[Outline], info: SlideInfo) -> None:
    if not outlines:
        return
    points = np.concatenate([outline.polygon.outer for outline in outlines])
    size = np.array([info.width_px, info.height_px])
    low, high = points.min(axis=0), points.max(axis=0)
    if (low < -_REACH_BEYOND * size).any() or (high > (1 + _REACH_BEYOND) * size).any():
        raise SlideError(
            f"{name!r} reaches from {_point(low)} to {_point(high)}, beyond the slide's {_point(size)}; expected "
            "level-0 pixels of this slide: export it again without scaling"
        )


def _point(values: NDArray[Any]) -> str:
    return f"({values[0]:.0f}, {values[1]:.0f})"
