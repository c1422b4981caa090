"""The way of one slide: file -> tissue -> patches -> features.  Read this first.

Every step leaves one file with a digest of all that made it. A step whose file carries the expected digest is not done
again; a changed slide, parameter or encoder changes the digest of that step and of those after it.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2

from dtcwsi.encoders import Encoder
from dtcwsi.errors import StoreError
from dtcwsi.patches import GridParameters, make_grid
from dtcwsi.slides import check_file, open_slide
from dtcwsi.slides.batches import patch_batches
from dtcwsi.slides.sampling import overview
from dtcwsi.store.atomic import write_bytes
from dtcwsi.store.contours import read_contours, read_provenance, write_contours
from dtcwsi.store.digest import digest, fingerprint
from dtcwsi.store.features import features_writer
from dtcwsi.store.hdf5 import read_attributes
from dtcwsi.store.patches import read_patches, write_patches
from dtcwsi.tissue import TissueParameters, draw_overlay, segment_tissue
from dtcwsi.types import SlideInfo, SlideReader

_OVERLAY_PX = 1200

__all__ = ["SlideJob", "SlideResult", "extract_slide"]

_VERSION = {"tissue": 1, "patches": 1, "features": 1}
"""Raised when a step's algorithm changes, so that the files of the older one are made anew."""


@dataclass(frozen=True)
class SlideJob:
    """One slide, where its files go, and how they are made.

    ``spacing_um`` stands in for a missing um/px, or replaces the recorded one with ``override_spacing``. Without
    ``grid`` the job ends after the tissue, without ``encoder`` after the patches. ``on_patches`` hears how many more
    patches are encoded.
    """

    path: Path
    out: Path
    tissue: TissueParameters = field(default_factory=TissueParameters)
    grid: GridParameters | None = field(default_factory=GridParameters)
    encoder: Encoder | None = None
    spacing_um: float | None = None
    override_spacing: bool = False
    workers: int = 1
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

    def digests(self) -> dict[str, str]:
        """The digest that the file of each step of this job must carry, in the order of the steps."""
        slide = [fingerprint(self.path), self.spacing_um, self.override_spacing]
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
            "patches": read_attributes(self.patches_file).get("digest"),
            "features": read_attributes(self.features_file).get("digest"),
        }


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
    check_file(job.path)
    wanted, stored = job.digests(), job.stored_digests()
    todo = [step for step in wanted if stored[step] != wanted[step]]
    seconds: dict[str, float] = {}
    if todo:
        with closing(open_slide(job.path, spacing_um=job.spacing_um, override=job.override_spacing)) as slide:
            if "tissue" in todo:
                _segment(job, slide, wanted["tissue"], seconds)
            if "patches" in todo and job.grid is not None:
                _cut(job, slide.info, job.grid, wanted["patches"], seconds)
            if "features" in todo and job.encoder is not None:
                _encode(job, slide.info, job.encoder, wanted["features"], seconds)
    seen = read_provenance(job.contours_file)
    return SlideResult(
        slide_id=job.slide_id,
        spacing_um=seen["spacing_um"],
        tissue_um2=seen["area_um2"],
        n_patches=len(read_patches(job.patches_file)) if "patches" in wanted else None,
        features_file=job.features_file if "features" in wanted else None,
        done=tuple(todo),
        seconds=seconds,
    )


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
            "spacing_um": info.spacing_um,
            "size_px": [info.width_px, info.height_px],
        }
        write_contours(job.contours_file, mask, provenance)


def _cut(job: SlideJob, info: SlideInfo, parameters: GridParameters, made: str, seconds: dict[str, float]) -> None:
    with _timed(seconds, "patches"):
        grid = make_grid(info, read_contours(job.contours_file), parameters)
        write_patches(job.patches_file, grid, _described(info, made))


def _encode(job: SlideJob, info: SlideInfo, encoder: Encoder, made: str, seconds: dict[str, float]) -> None:
    grid = read_patches(job.patches_file)
    _check_space(job.features_file, len(grid) * (encoder.dim * 4 + 16))
    attributes = {**_described(info, made), "encoder": encoder.name, "encoder_digest": encoder.digest}
    batches = patch_batches(info, grid, batch_size=encoder.batch_size, workers=job.workers)
    with features_writer(job.features_file, grid, encoder.dim, attributes) as append:
        while True:
            with _timed(seconds, "read"):
                pixels = next(batches, None)
            if pixels is None:
                break
            with _timed(seconds, "encode"):
                append(encoder.encode(pixels))
            if job.on_patches is not None:
                job.on_patches(len(pixels))


def _described(info: SlideInfo, made: str) -> dict[str, Any]:
    return {
        "digest": made,
        "slide_id": info.slide_id,
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
