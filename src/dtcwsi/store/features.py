"""Patch embeddings on disk: one HDF5 file a slide, `features` (N, D) and `coords` (N, 2), rows contiguous."""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import FeaturesError, UsageError
from dtcwsi.store.hdf5 import read_hdf5, write_hdf5
from dtcwsi.store.patches import grid_attributes
from dtcwsi.types import Features, PatchGrid

_MADE_BY = (
    "encoder",
    "encoder_digest",
    "patch_size_px",
    "patch_spacing_um",
    "min_tissue_fraction",
    "tissue_parameters",
)
MADE_BY_IF_ASKED = ("tissue_source", "region_classes", "quality", "stain")
"""Named in files that used them, and in no other."""

_CHECKSUM = "crc32"

__all__ = [
    "MADE_BY_IF_ASKED",
    "FeatureRows",
    "FeaturesHeader",
    "extraction_of",
    "feature_files",
    "features_writer",
    "read_features",
    "read_header",
]


@dataclass(frozen=True)
class FeaturesHeader:
    """What a feature file holds, without its numbers.

    ``slide_id`` is the file's name, ``recorded_id`` that of the slide that the file itself names, None if it does not.
    ``has_coords`` says whether it tells where patches lie.
    ``patch_size_px`` and ``patch_spacing_um`` (as asked for, not rounded to the slide's pixels) tell how the patches
    were cut, ``tissue_parameters`` (JSON) and ``min_tissue_fraction`` where. All are None in the files of other tools.
    ``tissue_source`` is ``outlines`` if a file gave the tissue, ``region_classes`` (JSON) which part of it,
    ``quality`` (JSON) which patches were good enough, ``stain`` (JSON) to what they were normalised; None where nothing
    was. ``slide_fingerprint`` is the checksum of the slide's file, None in the files of other tools.
    ``magnification`` is the one that TRIDENT notes with coordinates; CLAM's level and patch side are not looked at, as
    they follow the slide where scanners differ.
    """

    slide_id: str
    path: Path
    n_patches: int
    dim: int
    has_coords: bool = True
    encoder: str | None = None
    encoder_digest: str | None = None
    patch_size_px: int | None = None
    patch_spacing_um: float | None = None
    min_tissue_fraction: float | None = None
    tissue_parameters: str | None = None
    tissue_source: str | None = None
    region_classes: str | None = None
    quality: str | None = None
    stain: str | None = None
    recorded_id: str | None = None
    slide_fingerprint: str | None = None
    magnification: float | None = None

    @property
    def made_by(self) -> dict[str, str | int | float | None]:
        """Encoder, patches and tissue: what new slides must be treated with to be compared."""
        asked = {name: getattr(self, name) for name in MADE_BY_IF_ASKED}
        always = {name: getattr(self, name) for name in _MADE_BY}
        return always | {name: value for name, value in asked.items() if value is not None}


class FeatureRows:
    """The rows of a feature file that is being written."""

    def __init__(self, stored: h5py.Dataset, slide_id: str) -> None:
        self._stored, self._slide_id = stored, slide_id
        self._count = self._checksum = 0

    def append(self, rows: NDArray[np.float32]) -> None:
        """Add rows (N, dim).  Raises: FeaturesError if a number is not finite."""
        if not np.isfinite(rows).all():
            raise FeaturesError(
                f"the encoder gave NaN or infinite features for {self._slide_id}; nothing was written: check its "
                "weights and how its input is normalised"
            )
        rows = np.asarray(rows, np.float32)
        self._stored[self._count : self._count + len(rows)] = rows
        self._checksum = _crc32(rows, self._checksum)
        self._count += len(rows)

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        """Give a row (dim,) that was added."""
        return np.asarray(self._stored[number], np.float32)

    def finish(self) -> None:
        """Note the checksum.  Raises: FeaturesError if rows are missing."""
        if self._count != len(self._stored):
            raise FeaturesError(
                f"{self._slide_id} has {self._count} rows of features; expected {len(self._stored)}, one a patch"
            )
        self._stored.attrs[_CHECKSUM] = self._checksum


@contextmanager
def features_writer(
    path: Path,
    grid: PatchGrid,
    dim: int,
    attributes: dict[str, Any],
    late: dict[str, Any] | None = None,
) -> Iterator[FeatureRows]:
    """Take rows of features batch by batch; the file appears when all rows of ``grid`` are in.

    ``late`` is read when the rows are in: attributes that only then are known. Memory stays at one batch of rows
    whatever the slide's size.
    Raises: FeaturesError if rows are missing or not finite; StoreError if the disk is full.
    """
    with write_hdf5(path, {"format": "dtcwsi-features-1", **grid_attributes(grid), **attributes}) as file:
        coords = file.create_dataset("coords", data=grid.coords)
        coords.attrs[_CHECKSUM] = _crc32(grid.coords)
        rows = FeatureRows(file.create_dataset("features", shape=(len(grid), dim), dtype=np.float32), path.stem)
        yield rows
        rows.finish()
        file.attrs.update(late or {})


def feature_files(folder: Path) -> dict[str, Path]:
    """Find the feature files of a folder by slide id, sorted.

    ``folder`` holds ``*.h5`` files, or is an output folder of extract, or the ``features`` in it, with one encoder.
    Raises: UsageError if it holds none, or several encoders.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"the features folder {folder} {what}; expected a folder of .h5 files from extract")
    files = _visible(folder)
    below = folder / "features"
    if not below.is_dir() and folder.resolve().name == "features":
        below = folder
    if not files and below.is_dir():
        encoders = _with_files(below)
        if len(encoders) > 1:
            names = ", ".join(path.name for path in encoders)
            raise UsageError(f"{folder} holds features of several encoders ({names}); name one: {encoders[0]}")
        files = _visible(encoders[0]) if encoders else []
    if not files:
        inside, tensors = _with_files(folder), sorted(folder.glob("*.pt"))
        advice = f"name {inside[0]}" if inside else "run extract first or name the folder that holds them"
        advice = "name the .h5 files that were made with its .pt, which have no coordinates" if tensors else advice
        raise UsageError(f"{folder} holds no .h5 feature files; {advice}")
    return {path.stem: path for path in files}


def extraction_of(features: Path) -> Path | None:
    """Find the output folder of extract that a folder of features lies in, by its slides.csv; None if there is none."""
    places = (features, *list(features.resolve().parents)[:2])
    return next((place for place in places if (place / "slides.csv").is_file()), None)


def read_header(path: Path) -> FeaturesHeader:
    """Read what a feature file holds without loading it.  Raises: FeaturesError if it is no feature file."""
    with read_hdf5(path) as file, _damage_told(path):
        rows = _dataset(path, file)
        made = {name: _plain(file.attrs[name]) for name in (*_MADE_BY, *MADE_BY_IF_ASKED) if name in file.attrs}
        made |= {
            "recorded_id": _text(file.attrs.get("slide_id")),
            "slide_fingerprint": file.attrs.get("slide_fingerprint"),
        }
        size, has_coords = rows.shape[-2:], "coords" in file
        made["magnification"] = _finite(file["coords"].attrs.get("target_magnification")) if has_coords else None
        return FeaturesHeader(path.stem, path, int(size[0]), int(size[1]), has_coords, **made)


def read_features(path: Path) -> Features:
    """Load a slide's features and coordinates, whatever the encoder's precision, as float32.

    Also reads the files of other tools that keep `features` and `coords` side by side (CLAM, TRIDENT), with a leading
    axis of 1 or without.
    Raises: FeaturesError if the file is not whole, has no features, holds NaN or infinity, or not what was written.
    """
    with read_hdf5(path) as file, _damage_told(path):
        rows = _checked(path, _dataset(path, file)).astype(np.float32, copy=False)
        coords = _coords(path, file, len(rows))
        attributes = {**file.attrs, **(dict(file["coords"].attrs) if "coords" in file else {})}
    bad = int((~np.isfinite(rows)).any(axis=1).sum())
    if bad:
        raise FeaturesError(
            f"{path} has NaN or infinite features in {bad} of {len(rows)} patches; delete it and extract it again"
        )
    told = {name: value for name, value in attributes.items() if str(value) != "None"}  # as other tools write it
    size, spacing = told.get("patch_size_level0"), told.get("patch_spacing_um")
    return Features(
        slide_id=path.stem,
        features=rows,
        coords=coords,
        patch_size_level0=None if size is None else float(size),
        encoder=told.get("encoder"),
        spacing_um=None if spacing is None else float(spacing),
    )


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Say in one sentence what HDF5 meets inside a damaged file in many ways."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = " ".join(str(error).split())[:160]
        raise FeaturesError(
            f"{path} is damaged or not of this layout ({what}); delete it and extract the slide again"
        ) from error


def _with_files(folder: Path) -> list[Path]:
    """List the folders inside with .h5 files, sorted; ``patches`` of extract are coordinates alone."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "patches" and _visible(path))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.h5") if not path.name.startswith("."))


def _dataset(path: Path, file: h5py.File) -> h5py.Dataset:
    rows = file.get("features")
    if not isinstance(rows, h5py.Dataset):
        raise FeaturesError(f"{path} has no dataset 'features'; got {sorted(file) or 'an empty file'}")
    if rows.ndim != 2 and not (rows.ndim == 3 and len(rows) == 1):
        raise FeaturesError(f"{path} has features of shape {rows.shape}; expected (patches, dim)")
    return rows


def _coords(path: Path, file: h5py.File, count: int) -> NDArray[np.int64] | None:
    if "coords" not in file:
        return None
    coords = np.asarray(_checked(path, file["coords"]), np.float64)
    if coords.shape != (count, 2):
        raise FeaturesError(f"{path} has coords of shape {coords.shape}; expected ({count}, 2), one row a patch")
    if not np.isfinite(coords).all():
        raise FeaturesError(f"{path} has coords that are not finite; extract the slide again")
    return np.asarray(np.rint(coords), np.int64)


def _checked(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    """Read a dataset whole; files of other tools, and of earlier versions, have no checksum to compare it with."""
    stored = np.asarray(dataset[()])
    if _CHECKSUM in dataset.attrs and dataset.attrs[_CHECKSUM] != _crc32(stored):
        what = dataset.name.strip("/")
        raise FeaturesError(
            f"{path} holds other {what} than were written, by their checksum; it was damaged on disk or in copying: "
            "delete it and extract the slide again"
        )
    return stored[0] if stored.ndim == 3 and len(stored) == 1 else stored


def _crc32(rows: NDArray[Any], before: int = 0) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data, before)


def _text(value: Any) -> str | None:
    """Give a text attribute, of whatever type HDF5 keeps it in; None for anything else."""
    told = value.decode(errors="replace") if isinstance(value, bytes) else value
    return told if isinstance(told, str) else None


def _finite(value: Any) -> float | None:
    """Give a number that another tool noted, perhaps as text; None for anything else."""
    try:
        number = float(_text(value) or value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
