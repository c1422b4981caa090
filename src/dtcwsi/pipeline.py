"""The way of one slide: file -> tissue -> patches -> features.  Read this first.

Every step leaves one file with a digest of all that made it. A step whose file carries the expected digest is not done
again; a changed slide, resolution, parameter or encoder changes the digest of that step and of those after it.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.encoders import Encoder, check_spacing
from dtcwsi.errors import EncoderError, SlideError, StoreError
from dtcwsi.patches import GridParameters, make_grid
from dtcwsi.slides import check_file, open_slide
from dtcwsi.slides.batches import patch_batches
from dtcwsi.slides.sampling import overview
from dtcwsi.store.atomic import write_bytes
from dtcwsi.store.contours import peek_provenance, read_contours, read_provenance, write_contours
from dtcwsi.store.digest import digest, fingerprint
from dtcwsi.store.features import features_writer
from dtcwsi.store.hdf5 import read_attributes, read_digest
from dtcwsi.store.patches import count_patches, read_patches, write_patches
from dtcwsi.tissue import TissueParameters, draw_overlay, segment_tissue
from dtcwsi.types import SlideInfo, SlideReader

_OVERLAY_PX = 1200

__all__ = ["SlideJob", "SlideResult", "extract_slide"]

_VERSION = {"tissue": 1, "patches": 2, "features": 1}
"""Raised when a step's algorithm changes, so that the files of the older one are made anew."""


@dataclass(frozen=True)
class SlideJob:
    """One slide, where its files go, and how they are made.

    ``spacing_um`` stands in for a missing um/px, or replaces the recorded one with ``override_spacing``. Without
    ``grid`` the job ends after the tissue, without ``encoder`` after the patches. Unless ``any_spacing``, an encoder
    that was trained at another um/px than that of the patches is refused. ``on_step`` hears what begins (open, tissue,
    patches, features), ``on_patches`` how many more patches are encoded.
    """

    path: Path
    out: Path
    tissue: TissueParameters = field(default_factory=TissueParameters)
    grid: GridParameters | None = field(default_factory=GridParameters)
    encoder: Encoder | None = None
    spacing_um: float | None = None
    override_spacing: bool = False
    any_spacing: bool = True
    workers: int = 1
    on_step: Callable[[str], None] | None = None
    on_patches: Callable[[int], None] | None = None

    @property
    def slide_id(self) -> str:
        """The file's stem; every file of the slide is named after it."""
        return self.path.stem

    @property
    def contours_file(self) -> Path:
        """GeoJSON of the tissue; the overlay picture lies beside it as .jpg."""
        return self.out / "tissue" / f"{self.slide_id}.geojson"

    @property
    def patches_file(self) -> Path:
        """HDF5 of the patch grid."""
        return self.out / "patches" / f"{self.slide_id}.h5"

    @property
    def features_file(self) -> Path:
        """HDF5 of the embeddings, in a folder named after the encoder."""
        name = self.encoder.name if self.encoder else "none"
        return self.out / "features" / name / f"{self.slide_id}.h5"

    def digests(self, spacing_um: float, seen_as: str | None = None) -> dict[str, str]:
        """The digest that the file of each step must carry if the slide has this um/px, in the order of the steps.

        ``seen_as`` is the slide's fingerprint where it is known already; else the slide is read for it.
        """
        slide = [seen_as or fingerprint(self.path), spacing_um]
        made = {"tissue": digest(slide=slide, parameters=asdict(self.tissue), version=_VERSION["tissue"])}
        if self.grid is not None:
            made["patches"] = digest(made["tissue"], parameters=asdict(self.grid), version=_VERSION["patches"])
            if self.encoder is not None:
                encoder = [self.encoder.name, self.encoder.digest]
                made["features"] = digest(made["patches"], encoder=encoder, version=_VERSION["features"])
        return made

    def stored_digests(self) -> dict[str, str | None]:
        """The digests that the files on disk carry; None where a file is absent or damaged."""
        return {
            "tissue": read_provenance(self.contours_file).get("digest"),
            "patches": read_digest(self.patches_file),
            "features": read_digest(self.features_file),
        }

    def likely_spacing(self, seen: dict[str, Any]) -> float | None:
        """The um/px that the slide will turn out to have, by what an earlier run noted; None if only opening tells.

        A given um/px that the slide does not need changes nothing, so that naming one for some slides of a cohort
        leaves the others as they are.
        """
        if self.override_spacing:
            return self.spacing_um
        recorded, given = seen.get("spacing_um"), seen.get("given_spacing_um")
        came_from_file = not seen.get("override_spacing") and recorded != given
        return recorded if came_from_file else self.spacing_um

    def begin(self, step: str) -> None:
        """Tell whoever listens that a step begins."""
        if self.on_step is not None:
            self.on_step(step)

    def as_recorded(self) -> "SlideJob":
        """The same job with the parameters that the slide's patches on disk were made with.

        Raises: SlideError if the slide has no patches yet.
        """
        seen, cut = peek_provenance(self.contours_file), read_attributes(self.patches_file)
        if not seen or not cut:
            raise SlideError(f"{self.path.name!r} has no patches in {self.out}; run `dtcwsi patch` (or extract) first")
        return replace(
            self,
            tissue=TissueParameters(**seen["parameters"]),
            grid=GridParameters(cut["patch_size_px"], cut["patch_spacing_um"], cut["min_tissue_fraction"]),
            spacing_um=seen["given_spacing_um"],
            override_spacing=seen["override_spacing"],
        )


@dataclass
class SlideResult:
    """What came of a slide: resolution, findings, the steps that were done anew and the seconds they took."""

    slide_id: str
    spacing_um: float
    tissue_um2: float
    n_patches: int | None
    features_file: Path | None
    done: tuple[str, ...]
    seconds: dict[str, float]


def extract_slide(job: SlideJob) -> SlideResult:
    """Take one slide through every step that is not already finished.

    A slide without tissue is a finished slide with zero patches.
    Raises: SlideError, EncoderError, FeaturesError, StoreError; whatever was finished before stays finished.
    """
    job.begin("open")
    check_file(job.path)
    seconds: dict[str, float] = {}
    seen = read_provenance(job.contours_file)
    spacing_um = job.likely_spacing(seen)
    todo = list(_unfinished(job, spacing_um)) if spacing_um is not None else ["tissue"]
    if todo:
        with closing(open_slide(job.path, spacing_um=job.spacing_um, override=job.override_spacing)) as slide:
            todo = _do(job, slide, _unfinished(job, slide.info.spacing_um), seconds)
            seen = read_provenance(job.contours_file)
    return SlideResult(
        slide_id=job.slide_id,
        spacing_um=seen["spacing_um"],
        tissue_um2=seen["area_um2"],
        n_patches=None if job.grid is None else count_patches(job.patches_file),
        features_file=None if job.grid is None or job.encoder is None else job.features_file,
        done=tuple(todo),
        seconds=seconds,
    )


def _unfinished(job: SlideJob, spacing_um: float) -> dict[str, str]:
    """The steps whose files are not as the job wants them, and the digests they must get."""
    stored = job.stored_digests()
    return {step: made for step, made in job.digests(spacing_um).items() if stored[step] != made}


def _do(job: SlideJob, slide: SlideReader, todo: dict[str, str], seconds: dict[str, float]) -> list[str]:
    for step, made in todo.items():
        job.begin(step)
        if step == "tissue":
            _segment(job, slide, made, seconds)
        elif step == "patches" and job.grid is not None:
            _cut(job, slide.info, job.grid, made, seconds)
        elif step == "features" and job.encoder is not None:
            _encode(job, slide.info, job.encoder, made, seconds)
    return list(todo)


def _segment(job: SlideJob, slide: SlideReader, made: str, seconds: dict[str, float]) -> None:
    with _timed(seconds, "tissue"):
        info = slide.info
        longest_um = max(info.width_px, info.height_px) * info.spacing_um
        picture, pixel_level0 = overview(slide, min(job.tissue.seg_spacing_um, longest_um / _OVERLAY_PX))
        mask = segment_tissue(picture, pixel_level0, info.spacing_um, job.tissue)
        drawn = cv2.cvtColor(draw_overlay(picture, pixel_level0, mask), cv2.COLOR_RGB2BGR)
        write_bytes(job.contours_file.with_suffix(".jpg"), cv2.imencode(".jpg", drawn)[1].tobytes())
        provenance = {
            "digest": made,
            "parameters": asdict(job.tissue),
            "slide": str(job.path),
            "fingerprint": fingerprint(job.path),
            "spacing_um": info.spacing_um,
            "given_spacing_um": job.spacing_um,
            "override_spacing": job.override_spacing,
            "size_px": [info.width_px, info.height_px],
        }
        write_contours(job.contours_file, mask, provenance)


def _cut(job: SlideJob, info: SlideInfo, parameters: GridParameters, made: str, seconds: dict[str, float]) -> None:
    with _timed(seconds, "patches"):
        grid = make_grid(info, read_contours(job.contours_file), parameters)
        attributes = {**_described(info, made), "min_tissue_fraction": parameters.min_tissue_fraction}
        write_patches(job.patches_file, grid, attributes)


def _encode(job: SlideJob, info: SlideInfo, encoder: Encoder, made: str, seconds: dict[str, float]) -> None:
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
    }
    batch_size, prepare = encoder.batch_size, getattr(encoder, "prepare", None)
    with (
        features_writer(job.features_file, grid, encoder.dim, attributes) as append,
        closing(patch_batches(info, grid, batch_size=batch_size, workers=job.workers, prepare=prepare)) as batches,
    ):
        for rows in _embedded(encoder, batches, seconds):
            with _timed(seconds, "encode"):
                append(rows)
            if job.on_patches is not None:
                job.on_patches(len(rows))


def _embedded(
    encoder: Encoder, batches: Iterator[NDArray[np.uint8]], seconds: dict[str, float]
) -> Iterator[NDArray[np.float32]]:
    """Embed batches; seconds of waiting for pixels are those of reading, all others of encoding."""
    count = 0

    def read() -> Iterator[NDArray[np.uint8]]:
        nonlocal count
        while True:
            with _timed(seconds, "read"):
                pixels = next(batches, None)
            if pixels is None:
                return
            count = len(pixels)
            yield pixels

    together = getattr(encoder, "encode_prepared", None)
    rows = map(encoder.encode, read()) if together is None else together(read())
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


def _described(info: SlideInfo, made: str) -> dict[str, Any]:
    return {
        "digest": made,
        "slide_id": info.slide_id.encode(errors="backslashreplace").decode(),  # file names need not be UTF-8
        "slide_spacing_um": info.spacing_um,
        "width_level0": info.width_px,
        "height_level0": info.height_px,
    }


def _check_space(path: Path, need_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < need_bytes:
        raise StoreError(
            f"the disk is full: {path.name} needs {need_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; "
            "free space and run the same command again"
        )


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start
