"""Patch positions on disk: one HDF5 file a slide that reopens without guessing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import FeaturesError
from dtcwsi.store.hdf5 import read_hdf5, write_hdf5
from dtcwsi.types import PatchGrid

__all__ = ["count_patches", "grid_attributes", "read_patches", "write_patches"]


def write_patches(
    path: Path,
    grid: PatchGrid,
    attributes: dict[str, Any],
    scores: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write a slide's patch grid: ``coords`` (N, 2) int64 level-0 pixels and ``tissue_fraction`` (N,).

    ``scores`` (N,) become datasets of their own names.

    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    with write_hdf5(path, {"format": "dtcwsi-patches-1", **grid_attributes(grid), **attributes}) as file:
        file.create_dataset("coords", data=grid.coords)
        file.create_dataset("tissue_fraction", data=grid.tissue_fraction)
        for name, values in (scores or {}).items():
            file.create_dataset(name, data=values)


def grid_attributes(grid: PatchGrid) -> dict[str, Any]:
    """What a file must say of its patches' size and resolution."""
    return {
        "patch_size_px": grid.patch_size_px,
        "patch_size_level0": grid.patch_size_level0,
        "patch_spacing_um": grid.spacing_um,
    }


def read_patches(path: Path) -> PatchGrid:
    """Read a slide's patch grid.  Raises: FeaturesError if the file is not whole or holds no patches."""
    with read_hdf5(path) as file:
        try:
            return PatchGrid(
                coords=file["coords"][()].astype(np.int64),
                tissue_fraction=file["tissue_fraction"][()].astype(np.float32),
                patch_size_px=int(file.attrs["patch_size_px"]),
                patch_size_level0=int(file.attrs["patch_size_level0"]),
                spacing_um=float(file.attrs["patch_spacing_um"]),
            )
        except (KeyError, OSError, RuntimeError) as error:
            raise FeaturesError(f"{path} is damaged ({error}); delete it and run the same command again") from error


def count_patches(path: Path) -> int:
    """Count a slide's patches without reading them.  Raises: FeaturesError if the file is not whole."""
    with read_hdf5(path) as file:
        if "coords" not in file:
            raise FeaturesError(f"{path} has no dataset 'coords'; delete it and run the same command again")
        return int(file["coords"].shape[0])
