"""How far each slide of an output folder is, told without opening slides."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dtcwsi.errors import EncoderError, FeaturesError, SlideError
from dtcwsi.extraction.table import ProcessedSlides
from dtcwsi.pipeline import SlideJob, check_encoder
from dtcwsi.store.contours import peek_provenance
from dtcwsi.store.hdf5 import read_digest
from dtcwsi.store.patches import count_patches

__all__ = ["Folder", "Standing"]


@dataclass(frozen=True)
class Standing:
    """The steps that a slide has yet to go; none of a finished one.

    ``n_patches`` is known where patches are cut as asked for and yet to be encoded. ``refusal`` is the sentence with
    which the slide will fail, if that is plain already: it is to be encoded alone and has no patches, its outlines are
    not there, or another encoder of the same name made its features. ``slide_read`` tells whether the slide's file had
    to be read, ``replaces`` whether patches or features of other options, or of another file, give way to new ones.
    """

    todo: tuple[str, ...]
    n_patches: int | None = None
    refusal: str = ""
    slide_read: bool = False
    replaces: bool = False


class Folder:
    """What lies in an output folder, each subfolder listed once."""

    def __init__(self, out: Path, encoder: str | None) -> None:
        self._tissue = _ids(out / "tissue", ".geojson")
        self._patches = _ids(out / "patches", ".h5")
        self._features = _ids(out / "features" / encoder, ".h5") if encoder else frozenset()

    def standing(self, job: SlideJob, processed: ProcessedSlides, *, as_recorded: bool) -> Standing:
        """Compare the digests of a slide's files with those that its job asks for.

        Two or three small files are read. The slide is not, unless its file was changed after its tissue was found.
        A slide whose row or file cannot be read, or that has lost its tissue file, has all steps to go.
        """
        steps = ("tissue", "patches", "features")[: 1 + (job.grid is not None) + (job.encoder is not None)]
        if as_recorded and not self._recorded(job.slide_id):
            return Standing(steps, refusal=job.without_patches)
        if job.slide_id not in self._tissue:
            return Standing(steps)
        try:
            job = job.as_recorded() if as_recorded else replace(job, tissue=processed.parameters(job)[0])
            return self._compared(job, steps)
        except (SlideError, EncoderError) as error:
            return Standing(steps, refusal=str(error))
        except Exception:  # noqa: BLE001 - the run meets it again and tells of this slide alone
            return Standing(steps)

    def _recorded(self, slide_id: str) -> bool:
        return slide_id in self._tissue and slide_id in self._patches

    def _compared(self, job: SlideJob, steps: tuple[str, ...]) -> Standing:
        seen = peek_provenance(job.contours_file)
        spacing_um = job.likely_spacing(seen)
        if spacing_um is None:
            return Standing(steps)
        known = _fingerprint_noted(job, seen)
        wanted = job.digests(spacing_um, known)
        there = {"patches": job.slide_id in self._patches, "features": job.slide_id in self._features}
        told = {  # None where there is no file, or a damaged one
            "tissue": seen.get("digest"),
            "patches": read_digest(job.patches_file) if there["patches"] else None,
            "features": read_digest(job.features_file) if there["features"] else None,
        }
        todo = tuple(step for step, made in wanted.items() if told[step] != made)
        if there["features"] and "features" in todo and job.encoder is not None:
            check_encoder(job.encoder, job.features_file)
        n_patches = _counted(job.patches_file) if "features" in todo and "patches" not in todo else None
        replaces = any(told[step] is not None for step in todo if step != "tissue")
        return Standing(todo, n_patches, slide_read=known is None, replaces=replaces)


def _ids(folder: Path, suffix: str) -> frozenset[str]:
    """The slides that have a file in a folder, by its listing alone."""
    try:
        names = os.listdir(folder)
    except OSError:
        return frozenset()
    return frozenset(name.removesuffix(suffix) for name in names if name.endswith(suffix) and name[0] != ".")


def _fingerprint_noted(job: SlideJob, seen: dict[str, Any]) -> str | None:
    """The slide's fingerprint as its tissue file notes it; None if the slide may have changed since.

    Copying a file over another, also one of an older date, changes a time that no copy preserves. What changes deep
    in a folder changes none of the folder's own.
    Raises: OSError if one of the files is gone.
    """
    if job.path.is_dir():
        return None
    noted: str | None = seen.get("fingerprint")
    times = [time for at in (job.path.stat(), job.path.lstat()) for time in (at.st_mtime_ns, at.st_ctime_ns)]
    return noted if max(times) < job.contours_file.stat().st_mtime_ns else None


def _counted(path: Path) -> int | None:
    try:
        return count_patches(path)
    except FeaturesError:
        return None
