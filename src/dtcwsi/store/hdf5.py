"""HDF5 files that appear whole: opened beside, closed, fsynced, renamed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from dtcwsi.errors import FeaturesError, StoreError
from dtcwsi.store.atomic import beside

__all__ = ["read_attributes", "read_digest", "read_hdf5", "write_hdf5"]

_DAMAGE = (FeaturesError, OSError, RuntimeError, KeyError, ValueError)
"""HDF5 meets damage in many ways."""


@contextmanager
def write_hdf5(path: Path, attributes: dict[str, Any]) -> Iterator[h5py.File]:
    """Open a new HDF5 file to fill; it takes its name only when the block ends well.

    The bytes depend on the content alone: no times are recorded.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    with beside(path) as part:
        file = h5py.File(part, "w", libver="v108", track_order=False, locking=False)  # nobody else knows the name
        try:
            for name, value in attributes.items():
                file.attrs[name] = value
            yield file
        except BaseException:
            with suppress(OSError, RuntimeError):
                file.close()
            raise
        try:
            file.close()
        except RuntimeError as error:  # HDF5 reports a failed flush so
            raise StoreError(f"cannot write {path}: {error}; free space and run the same command again") from error


@contextmanager
def read_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read.

    Raises: FeaturesError if the file is missing, empty, cut off or not HDF5.
    """
    try:
        file = h5py.File(path, "r", locking=False)  # files are replaced whole, never changed
    except OSError as error:
        what = "does not exist" if not path.exists() else "is not a whole HDF5 file"
        raise FeaturesError(f"{path} {what}; expected an .h5 written by extract: extract the slide again") from error
    with file:
        yield file


def read_attributes(path: Path) -> dict[str, Any]:
    """Read a file's attributes, or nothing if the file is absent or unreadable."""
    try:
        with read_hdf5(path) as file:
            return {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
    except _DAMAGE:
        return {}


def read_digest(path: Path) -> str | None:
    """Read the digest that a file carries, or None if the file is absent or unreadable."""
    try:
        with read_hdf5(path) as file:
            return str(file.attrs["digest"])
    except _DAMAGE:
        return None
