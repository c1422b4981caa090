"""A slide's patches for other programs: a table, and what QuPath reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import PatchFates
from dtcwsi.explain.patch_table import check_table_format, write_patch_table
from dtcwsi.explain.qupath import write_outlines_geojson, write_patches_geojson
from dtcwsi.types import TissueMask

__all__ = ["Exports", "write_exports"]


@dataclass(frozen=True)
class Exports:
    """What to write: ``table`` csv or parquet, GeoJSON or not, ``compressed`` or plain.

    Raises: UsageError if the table's format is unknown or lacks a package.
    """

    table: str = "csv"
    geojson: bool = True
    compressed: bool = False

    def __post_init__(self) -> None:
        check_table_format(self.table)


def write_exports(
    stem: Path,
    outlines_stem: Path,
    slide_id: str,
    coords: NDArray[np.int64],
    patch_size_level0: float,
    fates: PatchFates,
    *,
    models_told: str = "",
    exports: Exports | None = None,
    tissue: TissueMask | None = None,
) -> dict[str, Path]:
    """Write a slide's patches to ``stem`` with the suffixes of a table and of GeoJSON, outlines beside them.

    ``models_told`` says which models the attention is of, in the GeoJSON.
    Returns: the files by name.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    exports = exports or Exports()
    suffix = ".geojson.gz" if exports.compressed else ".geojson"
    table = stem.with_name(f"{stem.name}.{exports.table}")
    write_patch_table(table, coords, patch_size_level0, fates)
    written = [table]
    if exports.geojson:
        patches, outlines = (place.with_name(place.name + suffix) for place in (stem, outlines_stem))
        about = {"attention_of": models_told, "fates_of": "the first of these models"}
        write_patches_geojson(patches, slide_id, coords, patch_size_level0, fates, about=about)
        write_outlines_geojson(outlines, slide_id, coords, patch_size_level0, fates, tissue, about=about)
        written += [patches, outlines]
    return {path.name: path for path in written}
