"""The slides that the models find hardest, to be looked at by people."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtcwsi.errors import DtcwsiError
from dtcwsi.explain.figures.subject import encode_jpeg
from dtcwsi.explain.report.runs import RunSummary
from dtcwsi.slides import open_slide
from dtcwsi.slides.sampling import overview
from dtcwsi.store.digest import fingerprint

__all__ = ["Case", "HardCases", "Said", "hard_cases"]

_MOST = 6
_THUMBNAIL_PX = 200


@dataclass(frozen=True)
class Said:
    """What one model says of a slide out of fold: the class, and its probability."""

    prediction: str
    probability: float


@dataclass(frozen=True)
class Case:
    """A slide with its truth, and what each model says of it, None where a run did not test it.

    ``thumbnail`` is a JPEG, None where ``missing`` says why there is none.
    """

    slide_id: str
    patient: str
    folds: tuple[str, ...]
    label: str
    said: Mapping[str, Said | None]
    thumbnail: bytes | None
    missing: str


@dataclass(frozen=True)
class HardCases:
    """The first of ``n_wrong`` slides predicted ``wrong``, the surest first; ``unsure`` are others, by their lead."""

    wrong: tuple[Case, ...]
    n_wrong: int
    unsure: tuple[Case, ...]


@dataclass(frozen=True)
class _Slide:
    """A slide's mean out-of-fold probabilities by run."""

    slide_id: str
    patient: str
    folds: tuple[str, ...]
    label: int
    by_run: Mapping[str, np.ndarray]

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(np.mean(list(self.by_run.values()), axis=0))

    @property
    def lead(self) -> float:
        """How far the likeliest class is before the next."""
        second, first = np.sort(self.mean)[-2:]
        return float(first - second)


def hard_cases(runs: Mapping[str, RunSummary], slide_files: Mapping[str, Path]) -> HardCases | None:
    """Pick the slides that were predicted wrong most surely, and of the others those with the smallest lead.

    By the mean over the runs of a slide's out-of-fold probabilities. ``slide_files`` are read for thumbnails; a file
    that is gone, cannot be read or is not the one that the runs' features were made from gives none.
    Returns: None where the runs have different classes, or no slide was predicted.
    """
    classes = {run.classes for run in runs.values()}
    if len(classes) != 1:
        return None
    (names,) = classes
    slides = _slides(runs)
    if not slides:
        return None
    wrong = sorted((one for one in slides if one.mean.argmax() != one.label), key=lambda one: one.mean[one.label])
    shown = wrong[:_MOST]
    others = [one for one in slides if one not in shown]
    unsure = sorted(others, key=lambda one: one.lead)[:_MOST]
    return HardCases(
        wrong=tuple(_case(one, runs, names, slide_files) for one in shown),
        n_wrong=len(wrong),
        unsure=tuple(_case(one, runs, names, slide_files) for one in unsure),
    )


def _slides(runs: Mapping[str, RunSummary]) -> list[_Slide]:
    """Gather each slide's rows; runs that disagree on a slide's label were made from different tables."""
    rows: dict[tuple[str, int], dict[str, list[int]]] = {}
    for name, run in runs.items():
        for row, key in enumerate(zip(run.slide_ids, run.labels.tolist(), strict=True)):
            rows.setdefault(key, {}).setdefault(name, []).append(row)
    slides = []
    for (slide_id, label), by_run in rows.items():
        first, first_rows = next(iter(by_run.items()))
        slides.append(
            _Slide(
                slide_id,
                patient=runs[first].patients[first_rows[0]],
                folds=tuple(dict.fromkeys(runs[name].tested_in[row] for name, own in by_run.items() for row in own)),
                label=label,
                by_run={name: runs[name].probabilities[own].mean(axis=0) for name, own in by_run.items()},
            )
        )
    return slides


def _case(one: _Slide, runs: Mapping[str, RunSummary], classes: Sequence[str], slide_files: Mapping[str, Path]) -> Case:
    said = {
        name: Said(classes[int(chances.argmax())], float(chances.max()))
        for name, chances in ((name, one.by_run.get(name)) for name in runs)
        if chances is not None
    }
    checksums = {run.checksums[one.slide_id] for run in runs.values() if one.slide_id in run.checksums}
    thumbnail, missing = _thumbnail(slide_files.get(one.slide_id), checksums)
    return Case(
        slide_id=one.slide_id,
        patient=one.patient,
        folds=one.folds,
        label=classes[one.label],
        said={name: said.get(name) for name in runs},
        thumbnail=thumbnail,
        missing=missing,
    )


def _thumbnail(path: Path | None, checksums: set[str]) -> tuple[bytes | None, str]:
    """Draw a slide small, or say why not; without ``checksums`` any file of its name will do."""
    if path is None:
        return None, "no slide file"
    try:
        if not path.exists():
            return None, "no slide file"
        if checksums and fingerprint(path) not in checksums:
            return None, f"{path.name} is another file than the features were made from"
        with closing(open_slide(path, spacing_um=1.0)) as slide:
            info = slide.info
            picture, _ = overview(slide, max(info.width_px, info.height_px) * info.spacing_um / _THUMBNAIL_PX)
    except (DtcwsiError, OSError):
        return None, f"{path.name} cannot be read"
    return encode_jpeg(picture, max_px=_THUMBNAIL_PX), ""
