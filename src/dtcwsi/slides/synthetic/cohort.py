"""Plan a cohort of synthetic slides and write it to disk."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import tifffile

from dtcwsi.errors import CohortError, DtcwsiError
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.slides.synthetic.render import render_slide
from dtcwsi.slides.synthetic.spec import LABELS, SyntheticSlide
from dtcwsi.slides.workers import begin_worker
from dtcwsi.store.atomic import check_writable, write_bytes, write_text

__all__ = ["plan_cohort", "write_cohort"]

_SPACINGS_UM = (0.46, 0.5, 0.52)
_TRUTH_DOWNSAMPLE = 16
_SIGNATURE = "dtcwsi synthetic slide "


def plan_cohort(
    *, slides: int = 60, side_px: int = 4096, difficulty: float = 0.5, seed: int = 0, prefix: str = ""
) -> list[SyntheticSlide]:
    """Decide which slides there are, of which patients, and from which random numbers each is drawn.

    Half of the slides (rounded) are of each label, and every second patient has two slides of one label. Names, seeds
    and spacings are dealt out without regard to the label.
    Raises: CohortError if there are fewer than two slides or a value is outside its range.
    """
    if slides < len(LABELS):
        raise CohortError(f"{slides} slides asked for, expected at least {len(LABELS)}, one of each label")
    if seed < 0:
        raise CohortError(f"seed is {seed}, expected 0 or more")
    rng = np.random.default_rng([seed, slides])
    owners = _patients_and_labels(slides)
    order = rng.permutation(len(owners))
    new_names: dict[int, int] = {}
    spacing_of: dict[int, float] = {}
    cohort = []
    for number, (patient, label) in enumerate(owners[place] for place in order):
        name = new_names.setdefault(patient, len(new_names))
        spacing_um = spacing_of.setdefault(name, float(rng.choice(_SPACINGS_UM)))
        cohort.append(
            SyntheticSlide(
                slide_id=f"{prefix}slide-{number + 1:03d}",
                patient_id=f"{prefix}patient-{name + 1:03d}",
                label=label,
                seed=_mixed(seed, 1, number),
                patient_seed=_mixed(seed, 2, name),
                side_px=side_px,
                spacing_um=spacing_um,
                difficulty=difficulty,
            )
        )
    return cohort


def write_cohort(
    folder: Path,
    *,
    slides: int = 60,
    side_px: int = 4096,
    difficulty: float = 0.5,
    seed: int = 0,
    prefix: str = "",
    workers: int = 2,
    on_slide: Callable[[str], None] | None = None,
) -> Path:
    """Write a cohort as `slides/ID.tif`, `truth/ID.png` and `labels.csv` (`slide_id,label,patient_id`).

    ``side_px`` level-0 pixels a side; ``difficulty`` 0..1; ``prefix`` goes before all ids. ``on_slide`` is called in
    this process with the id of each slide once it is on disk. The files depend on the parameters alone, not on
    ``workers``. A slide that is there already and was drawn from the same parameters is kept; one from other parameters
    is drawn again, and slides of an earlier cohort that are not in this one are removed. `truth` masks are 255 in the
    lesion, 16 level-0 pixels a pixel.
    Returns: ``folder``.
    Raises: CohortError if a parameter is outside its range; UsageError or StoreError if the disk refuses; DtcwsiError
    if a worker process is killed.
    """
    cohort = plan_cohort(slides=slides, side_px=side_px, difficulty=difficulty, seed=seed, prefix=prefix)
    check_writable(folder)
    _remove_strangers(folder, {slide.slide_id for slide in cohort})
    # The table comes first: one left over from another cohort would give these slides wrong labels.
    rows = [("slide_id", "label", "patient_id"), *((slide.slide_id, slide.label, slide.patient_id) for slide in cohort)]
    write_text(folder / "labels.csv", "".join(",".join(row) + "\n" for row in rows))
    todo = []
    for slide in cohort:
        if _is_finished(folder, slide):
            _report(on_slide, slide.slide_id)
        else:
            todo.append(slide)
    for slide_id in _written(folder, todo, workers):
        _report(on_slide, slide_id)
    return folder


def _patients_and_labels(slides: int) -> list[tuple[int, str]]:
    """One (patient, label) a slide; within each label patients have two slides and one slide in turn."""
    owners: list[tuple[int, str]] = []
    patient = 0
    for position, label in enumerate(LABELS):
        left = slides // len(LABELS) + int(position < slides % len(LABELS))
        while left > 0:
            count = min(left, 1 + patient % 2)
            owners += [(patient, label)] * count
            left -= count
            patient += 1
    return owners


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _written(folder: Path, todo: list[SyntheticSlide], workers: int) -> Iterable[str]:
    if workers <= 1 or len(todo) <= 1:
        for slide in todo:
            yield _write_slide(folder, slide)
        return
    # A fork would copy the locks of threads that the caller's libraries have started.
    with ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=get_context("spawn"), initializer=begin_worker
    ) as pool:
        futures = [pool.submit(_write_slide, folder, slide) for slide in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise DtcwsiError(
                f"{folder}: a process that draws slides was ended from outside, most often for want of memory; "
                "run again with fewer workers, finished slides are kept"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write_slide(folder: Path, slide: SyntheticSlide) -> str:
    rgb, lesion = render_slide(slide)
    side = slide.side_px // _TRUTH_DOWNSAMPLE
    coarse = cv2.resize(lesion, (side, side), interpolation=cv2.INTER_AREA)
    png = cv2.imencode(".png", np.where(coarse >= 128, 255, 0).astype(np.uint8))[1]
    # An older slide goes first and the new one comes last: its signature vouches for the truth beside it.
    _slide_path(folder, slide.slide_id).unlink(missing_ok=True)
    write_bytes(_truth_path(folder, slide.slide_id), png.tobytes())
    write_pyramid(
        _slide_path(folder, slide.slide_id),
        rgb,
        spacing_um=slide.spacing_um,
        description=_SIGNATURE + slide.fingerprint,
    )
    return slide.slide_id


def _is_finished(folder: Path, slide: SyntheticSlide) -> bool:
    signature = _signature(_slide_path(folder, slide.slide_id))
    return signature == _SIGNATURE + slide.fingerprint and _truth_path(folder, slide.slide_id).exists()


def _signature(path: Path) -> str:
    try:
        with tifffile.TiffFile(path) as tiff:
            return tiff.pages.first.description
    except (OSError, tifffile.TiffFileError):
        return ""


def _remove_strangers(folder: Path, wanted: set[str]) -> None:
    """Remove slides that this module wrote for another cohort; files of other origin stay."""
    for path in sorted((folder / "slides").glob("*.tif")):
        if path.stem not in wanted and _signature(path).startswith(_SIGNATURE):
            path.unlink()
            _truth_path(folder, path.stem).unlink(missing_ok=True)


def _slide_path(folder: Path, slide_id: str) -> Path:
    return folder / "slides" / f"{slide_id}.tif"


def _truth_path(folder: Path, slide_id: str) -> Path:
    return folder / "truth" / f"{slide_id}.png"


def _report(on_slide: Callable[[str], None] | None, slide_id: str) -> None:
    if on_slide is not None:
        on_slide(slide_id)
