"""Few annotations for QuPath: where the tissue is, and the outlines of the largest merge groups."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dtcwsi.explain.fates import PatchFates
from dtcwsi.explain.figures.painting import FATE_COLOURS
from dtcwsi.explain.qupath.objects import object_id, write_objects
from dtcwsi.types import TissueMask

__all__ = ["MOST_GROUPS", "write_outlines_geojson"]

MOST_GROUPS = 200
"""QuPath takes detections by the hundred thousand, but annotations by the thousand make it slow."""

_TISSUE_COLOUR = (230, 159, 0)
_OVERLAP_PX = 0.5  # joins neighbours whose places were rounded to whole pixels


def write_outlines_geojson(
    path: Path,
    slide_id: str,
    coords: NDArray[np.int64],
    patch_size_level0: float,
    fates: PatchFates,
    tissue: TissueMask | None = None,
    *,
    about: dict[str, Any] | None = None,
) -> None:
    """Write the tissue as one QuPath annotation and each of the largest merge groups as one, of patches in one outline.

    At most `MOST_GROUPS` groups, the largest by patches, ties to the earlier patch; the collection's member ``dtcwsi``
    and each group's metadata say how many there are. A group's measurements are its patches and, in sum, their
    attention; a group that was pruned later is named so. ``about`` joins that member.
    Outlines lie half a level-0 pixel outside the patches.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    groups = _largest(fates)
    many = len(np.unique(fates.group[fates.group_size > 1]))
    outline = shapely.Polygon() if tissue is None else _outline(tissue)
    features = [] if outline.is_empty else [_tissue(slide_id, outline)]
    told = {**(about or {}), "merge_groups": many, "merge_groups_drawn": len(groups)}
    write_objects(path, [*features, *_drawn(slide_id, coords, patch_size_level0, fates, groups, many)], told)


def _largest(fates: PatchFates) -> list[NDArray[np.int64]]:
    """Number the patches of each of the largest groups, the largest first."""
    order = np.argsort(fates.group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(fates.group[order])) + 1)
    several = [patches for patches in groups if len(patches) > 1]
    return sorted(several, key=lambda patches: (-len(patches), patches[0]))[:MOST_GROUPS]


def _drawn(
    slide_id: str,
    coords: NDArray[np.int64],
    patch_size_level0: float,
    fates: PatchFates,
    groups: list[NDArray[np.int64]],
    many: int,
) -> Iterator[dict[str, Any]]:
    for number, patches in enumerate(groups, 1):
        low, high = coords[patches] - _OVERLAP_PX, coords[patches] + (patch_size_level0 + _OVERLAP_PX)
        outline = shapely.union_all(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])).simplify(0)
        pruned = bool((fates.token[patches] < 0).all())
        yield _annotation(
            object_id(f"{slide_id}/group/{patches.tolist()}"),
            outline,
            name=f"merge group {number}{', pruned' if pruned else ''}",
            classification={
                "name": "merge group, pruned" if pruned else "merge group",
                "color": list(FATE_COLOURS["pruned" if pruned else "merged"]),
            },
            measurements={"patches": len(patches), "attention": float(f"{fates.attention[patches].sum():.6g}")},
            metadata={"groups": f"{number} of {many}, by patches; the {len(groups)} largest are drawn"},
        )


def _outline(tissue: TissueMask) -> shapely.Geometry:
    """Bring the areas of tissue together; what has none, such as a line, is left out."""
    pieces = [shapely.Polygon(piece.outer, piece.holes) for piece in tissue.polygons if len(piece.outer) > 2]
    valid = shapely.get_parts(shapely.get_parts(shapely.make_valid(pieces)))
    return shapely.union_all([part for part in valid if part.geom_type == "Polygon" and part.area])


def _tissue(slide_id: str, outline: shapely.Geometry) -> dict[str, Any]:
    colour = {"name": "Tissue", "color": list(_TISSUE_COLOUR)}
    return _annotation(object_id(f"{slide_id}/tissue"), outline, name="tissue", classification=colour)


def _annotation(identity: str, outline: shapely.Geometry, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": identity,
        "geometry": shapely.geometry.mapping(outline),
        "properties": {"objectType": "annotation", "isLocked": True, **properties},
    }
