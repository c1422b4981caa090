"""From a path to an open slide, and from folders to slide files."""

import os
from collections.abc import Iterable
from pathlib import Path

from dtcwsi.errors import SlideError, SpacingError, UsageError
from dtcwsi.registry import Registry
from dtcwsi.slides.ome_zarr import ZARR_SUFFIX
from dtcwsi.slides.picture import PICTURE_SUFFIXES
from dtcwsi.types import SlideReader

__all__ = ["READERS", "SLIDE_SUFFIXES", "check_file", "find_slides", "open_slide", "slide_files"]

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".dcm", ZARR_SUFFIX}
)

READERS = Registry(
    "reader",
    {
        "openslide": "dtcwsi.slides.openslide:OpenSlideReader",
        "tiff": "dtcwsi.slides.tiff:TiffReader",
        "picture": "dtcwsi.slides.picture:PictureReader",
        "ome-zarr": "dtcwsi.slides.ome_zarr:OmeZarrReader",
    },
)


def open_slide(path: Path, *, spacing_um: float | None = None, override: bool = False) -> SlideReader:
    """Open a slide with the first reader that knows its format.

    ``spacing_um`` is used when the file records no believable um/px, or always with ``override``.
    Raises: SlideError if the file is missing, unreadable, cut off or no slide; SpacingError if no um/px is known.
    """
    check_file(path)
    refused: SlideError | None = None
    for name in _reader_order(path):
        reader = READERS.get(name)
        if reader.reads(path):
            try:
                opened: SlideReader = reader(path, spacing_um=spacing_um, override=override)
            except SpacingError:
                raise
            except SlideError as error:  # a compression that only the next reader knows, perhaps
                refused = refused or error
            else:
                return opened
    reader, what = "OpenSlide or tifffile", "file of a slide scanner"
    if _is_zarr(path):
        reader, what = "zarr", "OME-Zarr folder"
    raise refused or SlideError(
        f"{path.name!r} is no slide that {reader} can read; expected a whole {what}: copy it again or leave it out"
    )


def check_file(path: Path) -> None:
    """Make sure that a slide file is there and may be read.  Raises: SlideError if not, or if it is empty."""
    if _is_zarr(path):
        return
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except FileNotFoundError as error:
        what = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise SlideError(f"{path} {what}; expected a slide file: restore it or leave it out") from error
    except IsADirectoryError as error:
        raise SlideError(f"{path} is a folder; expected a slide file: rename it or leave it out") from error
    except OSError as error:
        raise SlideError(f"{path.name!r} cannot be read ({error.strerror}); check its permissions") from error
    if not first:
        raise SlideError(f"{path.name!r} is empty (0 bytes); expected a whole slide: copy it again")


def find_slides(places: Iterable[Path]) -> dict[str, Path]:
    """Find slide files by slide id (the file's stem), sorted; folders are searched one level deep.

    Plain pictures in folders count only where no place has a slide: beside slides they are thumbnails and overlays.
    A link in a folder whose file is gone counts as a slide, and so does a named slide file that is absent while others
    are there: each is reported and the rest is done.
    Raises: UsageError if no place exists or a folder does not, nothing is found, or two files share one slide id.
    """
    places = list(places)
    found = _by_id(places, SLIDE_SUFFIXES) or _by_id(places, PICTURE_SUFFIXES)
    if not found:
        raise UsageError(_nothing_found(places))
    return dict(sorted(found.items()))


def _by_id(places: list[Path], suffixes: frozenset[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    any_there = any(os.path.lexists(place) for place in places)
    for place in places:
        reported_later = any_there and place.suffix.lower() in SLIDE_SUFFIXES and not os.path.lexists(place)
        for path in [place] if reported_later else _slides_at(place, suffixes):
            if path.stem in found and found[path.stem].resolve() != path.resolve():
                raise UsageError(
                    f"two files have the slide id {path.stem!r}: {found[path.stem]} and {path}; ids come from "
                    "file names and must differ: rename one"
                )
            found[path.stem] = path
    return found


def slide_files(places: Iterable[Path]) -> list[Path]:
    """List slide files, those of one slide id too; folders are searched two levels deep, as archives download.

    A file that several places lead to is listed once.
    Raises: UsageError if a place does not exist or a folder cannot be read, or nothing is found.
    """
    found: dict[tuple[str, Path], Path] = {}
    places = list(places)
    for place in places:
        for path in [*_slides_at(place), *(slide for folder in _folders_in(place) for slide in _slides_at(folder))]:
            found.setdefault((path.stem, path.resolve()), path)
    if not found:
        raise UsageError(_nothing_found(places))
    return sorted(found.values())


def _folders_in(place: Path) -> list[Path]:
    if not place.is_dir() or _is_zarr(place):
        return []
    inner = [path for path in sorted(place.iterdir()) if path.name[0] != "." and os.path.isdir(path)]
    return [path for path in inner if not _is_zarr(path)]


def _nothing_found(places: list[Path]) -> str:
    """Say where slides were looked for, and whether they lie one level below, as downloads of archives do."""
    where = ", ".join(str(place) for place in places[:5]) + (" ..." if len(places) > 5 else "")
    inner = {place: [path for path in sorted(place.glob("*/*")) if _looks_like_slide(path)] for place in places}
    place, slides = max(inner.items(), key=lambda item: len(item[1]), default=(Path(), []))
    if slides:
        below = len({path.parent for path in slides})
        return (
            f"{place} holds slides only in subfolders ({len(slides)} in {below}, such as {slides[0]}); name the "
            f"subfolders: {place}/*/"
        )
    return f"no slide was found in {where}; expected files ending in {', '.join(sorted(SLIDE_SUFFIXES))}"


def _slides_at(place: Path, suffixes: frozenset[str] = SLIDE_SUFFIXES) -> list[Path]:
    if place.is_dir() and not _is_zarr(place):
        try:
            entries = sorted(place.iterdir())
        except OSError as error:
            raise UsageError(f"the folder {place} cannot be read ({error.strerror}); check its permissions") from error
        return [path for path in entries if _looks_like_slide(path, suffixes)]
    if not os.path.lexists(place):
        raise UsageError(f"{place} does not exist; expected a slide file or a folder of slides")
    return [place]


def _looks_like_slide(path: Path, suffixes: frozenset[str] = SLIDE_SUFFIXES) -> bool:
    """Whether a folder's entry counts as a slide by its name."""
    named_so = path.suffix.lower() in suffixes and path.name[0] != "."
    return named_so and _is_zarr(path) == os.path.isdir(
        path
    )  # unlike Path's, quiet where a folder may be listed but not entered


def _is_zarr(path: Path) -> bool:
    """Whether a path is a folder that is named as a slide."""
    return path.suffix.lower() == ZARR_SUFFIX and os.path.isdir(path)


def _reader_order(path: Path) -> tuple[str, ...]:
    """OME-TIFFs go to tifffile first: OpenSlide would see only their full-size level."""
    if _is_zarr(path):
        return ("ome-zarr",)
    is_ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    return ("tiff", "openslide", "picture") if is_ome else ("openslide", "tiff", "picture")
