"""The slide that features were made from: where it was, how to know it again, and where its tissue is."""

from dataclasses import dataclass
from pathlib import Path

from dtcwsi.errors import SlideError
from dtcwsi.slides import check_file
from dtcwsi.slides.ome_zarr import ZARR_SUFFIX
from dtcwsi.slides.opening import SLIDE_SUFFIXES
from dtcwsi.slides.picture import PICTURE_SUFFIXES
from dtcwsi.store.contours import read_contours, read_provenance
from dtcwsi.store.digest import fingerprint
from dtcwsi.store.hdf5 import read_attributes
from dtcwsi.types import SlideInfo, TissueMask

__all__ = ["Origin", "check_size", "find_original", "read_origin"]


@dataclass(frozen=True)
class Origin:
    """What is known of the slide of a feature file; None where nothing is.

    ``path`` is where the slide was, ``fingerprint`` that of its file, ``size_level0`` (width, height) and
    ``spacing_um`` those of level 0, ``tissue`` the outlines beside the features.
    """

    slide_id: str
    path: Path | None = None
    fingerprint: str | None = None
    size_level0: tuple[int, int] | None = None
    spacing_um: float | None = None
    tissue: TissueMask | None = None


def read_origin(features: Path) -> Origin:
    """Read what a feature file, and the tissue file of the same extraction, say of their slide.

    Tissue of another version of the slide counts as none, and so does what cannot be read.
    """
    told = read_attributes(features)
    extraction = [features.resolve(), *features.resolve().parents][:4][-1]  # features/ENCODER/ID.h5 of it
    outlines = extraction / "tissue" / f"{features.stem}.geojson"
    found = read_provenance(outlines)
    made_from = told.get("slide_fingerprint")
    if made_from is not None and found.get("fingerprint") != made_from:
        found = {}
    width, height = told.get("width_level0"), told.get("height_level0")
    return Origin(
        slide_id=features.stem,
        path=_place(Path(found["slide"]), extraction) if found.get("slide") else None,
        fingerprint=made_from or found.get("fingerprint"),
        size_level0=None if width is None or height is None else (int(width), int(height)),
        spacing_um=told.get("slide_spacing_um"),
        tissue=_tissue(outlines) if found else None,
    )


def _tissue(outlines: Path) -> TissueMask | None:
    try:
        return read_contours(outlines)
    except (OSError, ValueError, KeyError, TypeError, IndexError):  # someone edited it
        return None


def _place(slide: Path, extraction: Path) -> Path:
    """Find where a slide was; earlier versions noted it as it was typed, in whatever folder the command ran."""
    places = (root / slide for root in (Path(), extraction, *extraction.parents))
    return next((place for place in places if place.exists()), slide)


def find_original(origin: Origin, folder: Path | None = None) -> Path:
    """Find the slide in a folder, or else where it was if its checksum is known; another file of its name is not taken.

    Raises: SlideError if it is not there, cannot be read, or is another file than the features were made from.
    """
    if folder is None:
        path = origin.path
        if path is None or not path.exists():
            where = "was not recorded" if path is None else f"is not at {path} any more"
            raise SlideError(f"the slide of {origin.slide_id!r} {where}; name the folder that holds it with --slides")
    else:
        there = sorted(folder.iterdir()) if folder.is_dir() and folder.suffix.lower() != ZARR_SUFFIX else [folder]
        named = [each for each in there if each == folder or each.stem == origin.slide_id]
        path = next((each for each in named if each.suffix.lower() in SLIDE_SUFFIXES | PICTURE_SUFFIXES), None)
        if path is None and origin.fingerprint and origin.path is not None and origin.path.exists():
            path = origin.path
        if path is None:
            raise SlideError(
                f"{folder} holds no slide {origin.slide_id!r}; expected a file of that name, such as "
                f"{origin.path.name if origin.path else f'{origin.slide_id}.svs'}: name the folder that does"
            )
    check_file(path)
    now = fingerprint(path) if origin.fingerprint else None
    if now != origin.fingerprint:
        raise SlideError(
            f"{path} is another slide than the features of {origin.slide_id!r} were made from (its size or content "
            f"differs: checksum {now}, expected {origin.fingerprint}); name the folder of the right one with --slides, "
            "or extract this one"
        )
    return path


def check_size(origin: Origin, info: SlideInfo) -> None:
    """Make sure that a slide has the size that the features recorded.  Raises: SlideError if not."""
    size = (info.width_px, info.height_px)
    if origin.size_level0 not in (None, size):
        raise SlideError(
            f"{info.path} has {size[0]} x {size[1]} pixels, but the features of {origin.slide_id!r} were made from a "
            f"slide of {origin.size_level0[0]} x {origin.size_level0[1]}; name the right one, or extract this one"
        )
