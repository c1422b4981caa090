"""The way of one slide: file -> tissue -> patches -> features.  Read this first.

Every step leaves one file with a digest of all that made it. A step whose file carries the expected digest is not done
again; a changed slide, resolution or parameter changes the digest of that step and of those after it. Features of an
encoder are never replaced by those of another that has its name.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.encoders import Encoder, check_spacing, encode_once
from dtcwsi.errors import EncoderError, SlideError, StoreError
from dtcwsi.job import SlideJob
from dtcwsi.patches import (
    GridParameters,
    QualityParameters,
    Region,
    good_enough,
    make_grid,
    measured_at,
    quality_scores,
    region_of,
)
from dtcwsi.slides import check_file, open_slide
from dtcwsi.slides.batches import PatchBatch, patch_batches
from dtcwsi.slides.sampling import overview
from dtcwsi.store.atomic import write_bytes
from dtcwsi.store.contours import read_contours, read_provenance, write_contours
from dtcwsi.store.digest import fingerprint
from dtcwsi.store.features import FeatureRows, features_writer
from dtcwsi.store.hdf5 import read_attributes
from dtcwsi.store.outlines import Outline, read_outlines
from dtcwsi.store.patches import count_patches, read_patches, write_patches
from dtcwsi.tissue import draw_overlay, given_tissue, segment_tissue
from dtcwsi.types import PatchGrid, SlideInfo, SlideReader, TissueMask

_OVERLAY_PX = 1200
_SCORED_AT_ONCE = 64

__all__ = ["SlideJob", "SlideResult", "check_encoder", "extract_slide"]


class _Made(NamedTuple):
    """What the file of a step says of what made it: the digest of it all, and the checksum of the slide's file."""

    digest: str
    slide: str


@dataclass
class SlideResult:
    """What came of a slide: resolution, findings, the steps that were done anew and the seconds they took.

    ``no_patches`` says why it has none, where it has none.
    """

    slide_id: str
    spacing_um: float
    tissue_um2: float
    n_patches: int | None
    features_file: Path | None
    done: tuple[str, ...]
    seconds: dict[str, float]
    no_patches: str = ""


def check_encoder(encoder: Encoder, features_file: Path) -> None:
    """Refuse to put features where those of another encoder of the same name are.  Raises: EncoderError."""
    before = read_attributes(features_file).get("encoder_digest")
    if before not in (None, encoder.digest):
        raise EncoderError(
            f"{features_file} holds features of another encoder called {encoder.name!r} (digest {before}, this one "
            f"has {encoder.digest}); give the file of weights another name, or name another --out"
        )


def extract_slide(job: SlideJob) -> SlideResult:
    """Take one slide through every step that is not already finished.

    A slide without tissue is a finished slide with zero patches. One whose file is replaced or written to while it is
    read fails: nothing is kept that might be of two files.
    Raises: SlideError, EncoderError, FeaturesError, StoreError; whatever was finished before stays finished.
    """
    job.begin("open")
    check_file(job.path)
    checksum, seconds = fingerprint(job.path), dict[str, float]()
    seen = read_provenance(job.contours_file)
    spacing_um = job.likely_spacing(seen)
    todo = list(_unfinished(job, spacing_um, checksum)) if spacing_um is not None else ["tissue"]
    if todo:
        with closing(open_slide(job.path, spacing_um=job.spacing_um, override=job.override_spacing)) as slide:
            try:
                todo = _do(job, slide, _unfinished(job, slide.info.spacing_um, checksum), seconds)
            except SlideError:
                _check_same(job, checksum)  # a file that is written to looks damaged
                raise
            seen = read_provenance(job.contours_file)
    n_patches = None if job.grid is None else count_patches(job.patches_file)
    return SlideResult(
        slide_id=job.slide_id,
        spacing_um=seen["spacing_um"],
        tissue_um2=seen["area_um2"],
        n_patches=n_patches,
        features_file=None if job.grid is None or job.encoder is None else job.features_file,
        done=tuple(todo),
        seconds=seconds,
        no_patches=read_attributes(job.patches_file).get("no_patches", "") if n_patches == 0 else "",
    )


def _unfinished(job: SlideJob, spacing_um: float, checksum: str) -> dict[str, _Made]:
    """The steps whose files are not as the job wants them, and what they must say of what made them."""
    stored, wanted = job.stored_digests(), job.digests(spacing_um, checksum)
    return {step: _Made(digest, checksum) for step, digest in wanted.items() if stored[step] != digest}


def _check_same(job: SlideJob, checksum: str) -> None:
    """Make sure that what was read is of the file with this checksum.  Raises: SlideError if it may not be."""
    try:
        same = fingerprint(job.path) == checksum
    except OSError as error:
        raise SlideError(
            f"{job.path.name!r} could be read no longer when all of it was read ({error.strerror}); restore it and run "
            "the same command again"
        ) from error
    if not same:
        raise SlideError(
            f"{job.path.name!r} changed while it was read; wait until nothing writes to it, and run the same command "
            "again"
        )


def _do(job: SlideJob, slide: SlideReader, todo: dict[str, _Made], seconds: dict[str, float]) -> list[str]:
    if "features" in todo and job.encoder is not None:
        check_encoder(job.encoder, job.features_file)
    for step, made in todo.items():
        job.begin(step)
        if step == "tissue":
            _segment(job, slide, made, seconds)
        elif step == "patches" and job.grid is not None:
            _cut(job, slide.info, job.grid, made, seconds)
        elif step == "features" and job.encoder is not None:
            _encode(job, slide.info, job.encoder, made, seconds)
    return list(todo)


def _segment(job: SlideJob, slide: SlideReader, made: _Made, seconds: dict[str, float]) -> None:
    with _timed(seconds, "tissue"):
        info = slide.info
        longest_um = max(info.width_px, info.height_px) * info.spacing_um
        picture, pixel_level0 = overview(slide, min(job.tissue.seg_spacing_um, longest_um / _OVERLAY_PX))
        outline = job.outline
        if outline is None:
            mask = segment_tissue(picture, pixel_level0, info.spacing_um, job.tissue)
        else:
            mask = given_tissue(outline, info)
        _check_same(job, made.slide)
        drawn = cv2.cvtColor(draw_overlay(picture, pixel_level0, mask), cv2.COLOR_RGB2BGR)
        write_bytes(job.contours_file.with_suffix(".jpg"), cv2.imencode(".jpg", drawn)[1].tobytes())
        provenance = {
            "digest": made.digest,
            "parameters": asdict(job.tissue),
            "slide": str(job.path.absolute()),
            "fingerprint": made.slide,
            "spacing_um": info.spacing_um,
            "given_spacing_um": job.spacing_um,
            "override_spacing": job.override_spacing,
            "size_px": [info.width_px, info.height_px],
            **({} if outline is None else {"tissue_from": {"path": str(outline.path), "digest": outline.digest}}),
        }
        write_contours(job.contours_file, mask, provenance)


def _cut(job: SlideJob, info: SlideInfo, parameters: GridParameters, made: _Made, seconds: dict[str, float]) -> None:
    with _timed(seconds, "patches"):
        mask, region, outlines = read_contours(job.contours_file), None, tuple[Outline, ...]()
        if job.regions is not None:
            outlines = tuple(read_outlines(job.regions.file(job.slide_id), info))
            region = region_of(outlines, job.regions)
        grid = make_grid(info, mask, parameters, region)
        attributes = {
            **_described(info, made),
            "min_tissue_fraction": parameters.min_tissue_fraction,
            **job.provenance(),
        }
        scores: dict[str, NDArray[np.float32]] = {}
        if job.quality is not None:
            grid, scores, dropped = _sifted(job, info, grid, job.quality)
            _check_same(job, made.slide)
            attributes |= dropped
        if not len(grid):
            attributes["no_patches"] = _too_small(info, grid) or _why_none(job, mask, region, outlines, attributes)
        write_patches(job.patches_file, grid, attributes, scores)


def _too_small(info: SlideInfo, grid: PatchGrid) -> str:
    """Say that a slide cannot hold a patch, if it cannot."""
    side, size = grid.patch_size_level0, (info.width_px, info.height_px)
    return f"{size[0]} x {size[1]} px are less than a patch of {side} level-0 px a side" if min(size) < side else ""


def _why_none(
    job: SlideJob, mask: TissueMask, region: Region | None, outlines: Sequence[Outline], told: dict[str, Any]
) -> str:
    """Say why a slide has no patches."""
    blurred, pen = told.get("n_blurred", 0), told.get("n_pen", 0)
    if blurred or pen:
        return f"--min-sharpness left out {blurred:,} patches and --max-pen {pen:,}, which were all"
    if not mask.polygons:
        return "no tissue was found" if job.outline is None else f"{job.outline.path.name} outlines no tissue"
    if region is not None and job.regions is not None and job.regions.classes and not region.within:
        there = ", ".join(sorted({name for outline in outlines for name in outline.classes}))
        return f"no outline of the class {', '.join(job.regions.classes)}; the slide's file has {there or 'none'}"
    return "no patch holds enough tissue" + ("" if region is None else " in the regions")


def _sifted(
    job: SlideJob, info: SlideInfo, grid: PatchGrid, parameters: QualityParameters
) -> tuple[PatchGrid, dict[str, NDArray[np.float32]], dict[str, int]]:
    """Score every patch and keep the good ones.  Returns: these, their scores, how many were too blurred, or pen."""
    spacing_um = parameters.spacing_um
    looked_at = measured_at(grid, parameters)
    with closing(patch_batches(info, looked_at, batch_size=_SCORED_AT_ONCE, workers=job.workers)) as batches:
        found = [quality_scores(batch.pixels, spacing_um) for batch in batches]
    names = quality_scores(np.zeros((0, 1, 1, 3), np.uint8), spacing_um)
    scores = {name: np.concatenate([none, *(each[name] for each in found)]) for name, none in names.items()}
    kept = good_enough(scores, parameters)
    blurred = int((scores["sharpness"] < parameters.min_sharpness).sum())
    dropped = {"n_blurred": blurred, "n_pen": int((scores["pen"] > parameters.max_pen).sum())}
    grid = grid.part(kept)
    return grid, {name: values[kept] for name, values in scores.items()}, dropped


def _encode(job: SlideJob, info: SlideInfo, encoder: Encoder, made: _Made, seconds: dict[str, float]) -> None:
    if job.grid is not None and not job.any_spacing:
        check_spacing(encoder, job.grid.patch_spacing_um)
    grid = read_patches(job.patches_file)
    _check_space(job.features_file, len(grid) * (encoder.dim * 4 + 16))
    attributes = {
        **_described(info, made),
        "encoder": encoder.name,
        "encoder_digest": encoder.digest,
        "min_tissue_fraction": job.grid.min_tissue_fraction if job.grid else 0.0,
        "tissue_parameters": json.dumps(asdict(job.tissue), sort_keys=True),
        **job.provenance(),
    }
    left, late = getattr(encoder, "stain_left", None), dict[str, int]()
    if left is not None:
        attributes["stain"] = getattr(encoder, "stain")  # noqa: B009 - few encoders have one
    how: dict[str, Any] = {"batch_size": encoder.batch_size, "prepare": getattr(encoder, "prepare", None)}
    with (
        features_writer(job.features_file, grid, encoder.dim, attributes, late) as writer,
        closing(patch_batches(info, grid, workers=job.workers, with_digests=True, **how)) as batches,
    ):
        for rows in _embedded(encoder, batches, writer, seconds):
            with _timed(seconds, "encode"):
                writer.append(rows)
            if job.on_patches is not None:
                job.on_patches(len(rows))
        _check_same(job, made.slide)
        if left is not None:
            late["n_own_stain"] = getattr(encoder, "stain_left", left) - left


def _embedded(
    encoder: Encoder, batches: Iterator[PatchBatch], written: FeatureRows, seconds: dict[str, float]
) -> Iterator[NDArray[np.float32]]:
    """Embed batches; seconds of waiting for pixels are those of reading, all others of encoding."""
    count = 0

    def read() -> Iterator[PatchBatch]:
        nonlocal count
        while True:
            with _timed(seconds, "read"):
                batch = next(batches, None)
            if batch is None:
                return
            count = len(batch.pixels)
            yield batch

    together = getattr(encoder, "encode_prepared", None) or partial(map, encoder.encode)
    rows = encode_once(read(), together, written.__getitem__)
    while True:
        began, waited = time.perf_counter(), seconds.get("read", 0.0)
        try:
            made = next(rows, None)
        except RuntimeError as error:  # torch: out of memory, a kernel that the device lacks
            what = str(error).partition("\n")[0]
            raise EncoderError(
                f"encoder {encoder.name!r} failed on a batch of {count} patches ({what}); "
                "free the device's memory or choose another --device"
            ) from error
        spent = time.perf_counter() - began - (seconds.get("read", 0.0) - waited)
        seconds["encode"] = seconds.get("encode", 0.0) + spent
        if made is None:
            return
        yield made


def _described(info: SlideInfo, made: _Made) -> dict[str, Any]:
    return {
        "digest": made.digest,
        "slide_id": info.slide_id.encode(errors="backslashreplace").decode(),  # file names need not be UTF-8
        "slide_fingerprint": made.slide,
        "slide_spacing_um": info.spacing_um,
        "width_level0": info.width_px,
        "height_level0": info.height_px,
    }


def _check_space(path: Path, need_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < need_bytes:
        raise StoreError(
            f"the disk is full: {path.name} needs {_size(need_bytes)} and {_size(free)} are free; "
            "free space and run the same command again"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.0f} kB"


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start
