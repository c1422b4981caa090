"""A few slides tried out in a temporary folder, where nothing else tells what a cohort will take."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dtcwsi.extraction.failure import failure_sentence
from dtcwsi.pipeline import SlideJob, SlideResult, extract_slide
from dtcwsi.store.hdf5 import read_attributes
from dtcwsi.store.patches import read_patches, write_patches

__all__ = ["Look", "look_at"]

_WARM, _TIMED = 32, 256
_TOO_SLOW_S = 20.0


@dataclass(frozen=True)
class Look:
    """What one slide taught: its patches, the seconds to find its tissue, to cut it, and to encode one patch.

    ``encode_s`` includes the reading, and is None where nothing was encoded.
    """

    patches: int | None
    tissue_s: float
    cut_s: float = 0.0
    encode_s: float | None = None


def look_at(jobs: Sequence[SlideJob], count: int, *, as_recorded: bool = False) -> tuple[list[Look], dict[str, str]]:
    """Take the first steps of a few slides, nothing of which stays.

    Slides are drawn by a hash of their ids, so that they are not all of one site. Of at most one slide a few hundred
    patches are encoded. One that fails gives way to another; at most twice ``count`` are tried. With ``as_recorded``
    patches are cut as those on disk were.
    Returns: at most ``count`` looks, and why the slides that failed did, by id.
    """
    drawn = sorted(jobs, key=lambda job: hashlib.sha256(job.slide_id.encode(errors="surrogateescape")).digest())
    looks, failed = list[Look](), dict[str, str]()
    with tempfile.TemporaryDirectory(prefix="dtcwsi-") as folder:
        for job in drawn[: 2 * count]:
            if len(looks) == count:
                break
            timed = any(look.encode_s is not None for look in looks)
            try:
                job = job.as_recorded() if as_recorded else job
                looks.append(_look(replace(job, out=Path(folder), on_step=None, on_patches=None), encode=not timed))
            except Exception as error:  # noqa: BLE001 - whatever one slide does, others are tried
                failed[job.slide_id] = failure_sentence(job.slide_id, error)
    return looks, failed


def _look(job: SlideJob, *, encode: bool) -> Look:
    cut = extract_slide(replace(job, encoder=None))
    encode_s = _seconds_per_patch(job) if encode and job.encoder is not None and cut.n_patches else None
    return Look(cut.n_patches, cut.seconds["tissue"], cut.seconds.get("patches", 0.0), encode_s)


def _seconds_per_patch(job: SlideJob) -> float:
    """Encode a few patches, then more; the difference leaves out what starting takes."""
    few, first_s = _encoded(job, _WARM)
    more, second_s = _encoded(job, _TIMED if first_s < _TOO_SLOW_S else 2 * _WARM)
    if more > few and second_s > first_s:
        return (second_s - first_s) / (more - few)
    return second_s / more


def _encoded(job: SlideJob, most: int) -> tuple[int, float]:
    """Encode patches from the middle of a slide.  Returns: how many and the seconds it took."""
    attributes, grid = read_attributes(job.patches_file), read_patches(job.patches_file)
    first = max(0, (len(grid) - most) // 2)
    part = grid.part(slice(first, first + most))
    job.features_file.unlink(missing_ok=True)
    write_patches(job.patches_file, part, attributes)
    result: SlideResult = extract_slide(job)
    write_patches(job.patches_file, grid, attributes)
    return len(part), result.seconds.get("read", 0.0) + result.seconds.get("encode", 0.0)
