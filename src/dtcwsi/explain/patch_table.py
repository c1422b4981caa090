"""What is known of a slide's patches as a table: CSV for people and scripts, Parquet for large cohorts."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import UsageError
from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.store.atomic import beside

__all__ = ["TABLE_FORMATS", "check_table_format", "measurements", "whole", "write_patch_table"]

TABLE_FORMATS = ("csv", "parquet")


def check_table_format(name: str) -> None:
    """Make sure that a table can be written.  Raises: UsageError if its format is unknown or lacks a package."""
    if name not in TABLE_FORMATS:
        raise UsageError(f"got the table format {name!r}; expected one of {', '.join(TABLE_FORMATS)}")
    if name == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"tables in Parquet need a package that is not installed ({error}); pip install 'dtcwsi[parquet]', or "
                "take CSV"
            ) from error


def write_patch_table(path: Path, coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates) -> None:
    """Write one row a patch, as CSV or Parquet by the path's suffix.

    ``x``, ``y`` and ``size`` are level-0 pixels, ``token`` is -1 and ``stage`` 0 for none. ``importance`` and ``mass``
    are left out where the model does not score patches. CSV has six significant digits, Parquet all.
    Raises: StoreError if the disk is full or the folder cannot be written; UsageError as `check_table_format`.
    """
    columns = _columns(coords, patch_size_level0, fates)
    if path.suffix == ".parquet":
        _write_parquet(path, columns)
        return
    with beside(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(_texts(values) for values in columns.values()), strict=True))


def measurements(fates: PatchFates) -> dict[str, NDArray[np.float64]]:
    """Name what is measured of every patch, (N,) each: importance and mass only where the model scores patches."""
    told = {"attention": fates.attention, "attention_percentile": fates.percentile.round(2)}
    if fates.importance is not None and fates.mass is not None:
        told |= {"importance": fates.importance, "mass": fates.mass}
    return told


def whole(number: float) -> float | int:
    """Give a whole number as such, so that it is written without a point."""
    return int(number) if float(number).is_integer() else float(number)


def _columns(coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates) -> dict[str, NDArray[np.generic]]:
    return {
        "patch": np.arange(len(fates)),
        "x": coords[:, 0],
        "y": coords[:, 1],
        "size": np.full(len(fates), whole(patch_size_level0)),
        **measurements(fates),
        "fate": np.array(FATES)[fates.fate],
        "stage": fates.stage,
        "token": fates.token,
    }


def _texts(values: NDArray[np.generic]) -> Iterator[object]:
    listed = values.tolist()
    return (f"{value:.6g}" for value in listed) if values.dtype.kind == "f" else iter(listed)


def _write_parquet(path: Path, columns: dict[str, NDArray[np.generic]]) -> None:
    check_table_format("parquet")
    import pyarrow as pa
    from pyarrow import parquet

    with beside(path) as part:
        parquet.write_table(pa.table(dict(columns)), part)
