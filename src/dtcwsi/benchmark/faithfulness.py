"""The maps of a run put to the test, each slide by the models that never saw it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dtcwsi.errors import SlideError, told_of
from dtcwsi.explain.faithfulness import TRUTH_DOWNSAMPLE, Draws, SlideScores, TruthMask, measure_slide, read_mask
from dtcwsi.explain.origin import read_origin
from dtcwsi.inference import Run
from dtcwsi.store.features import read_features, read_header

__all__ = ["RunScores", "measure_run"]


@dataclass
class RunScores:
    """What was found: ``slides`` and their ``patients``, in one order, and slides left out.

    ``in_training`` are measured slides that every model asked was trained on; ``no_tissue`` and ``failed`` (with the
    reason) were not measured; ``without_truth`` have no mask though a folder of masks was given; ``without_features``
    are slides of the patients named that have no features.
    """

    slides: list[SlideScores] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    in_training: list[str] = field(default_factory=list)
    no_tissue: list[str] = field(default_factory=list)
    without_truth: list[str] = field(default_factory=list)
    without_features: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def measure_run(
    run: Run,
    files: Mapping[str, Path],
    *,
    patients: Mapping[str, str] | None = None,
    others: Sequence[Run] = (),
    truth: Path | None = None,
    truth_downsample: float = TRUTH_DOWNSAMPLE,
    draws: Draws | None = None,
    on_slide: Callable[[str], None] = lambda _: None,
) -> RunScores:
    """Measure the maps of every feature file, by slide id; one that cannot be measured is noted and passed over.

    A slide is asked of the models that were not trained on it, or of all if every one was; its maps are compared with
    those of the run's other models, and with the models of ``others``, trainings by other seeds, that did not see it.
    ``truth`` holds ``ID.png``, white in the lesion, ``truth_downsample`` level-0 pixels a pixel. ``patients`` are by
    slide id; the run's own table names those of its cohort. ``on_slide`` is called with each id that is done.
    """
    known = {**run.patients, **(patients or {})}
    found = RunScores(without_features=sorted(set(patients or {}) - set(files)))
    for slide_id, path in files.items():
        try:
            scores = _measured(run, others, path, slide_id, _mask(truth, slide_id), truth_downsample, draws)
        except Exception as error:  # noqa: BLE001 - one slide, whatever it holds, is not all
            found.failed[slide_id] = told_of(error)
        else:
            if scores is None:
                found.no_tissue.append(slide_id)
            else:
                found.slides.append(scores)
                found.patients.append(known.get(slide_id, slide_id))
                found.in_training += [] if run.not_trained_on(slide_id) else [slide_id]
                found.without_truth += [slide_id] if truth is not None and _mask(truth, slide_id) is None else []
        on_slide(slide_id)
    return found


def _measured(
    run: Run,
    others: Sequence[Run],
    path: Path,
    slide_id: str,
    mask: Path | None,
    downsample: float,
    draws: Draws | None,
) -> SlideScores | None:
    """Measure one slide; None if it has no patches."""
    features = read_features(path)
    if not len(features.features):
        return None
    lesion = None if mask is None else read_mask(mask)
    if mask is not None and lesion is not None:
        _check_covers(mask, lesion.shape, downsample, read_origin(path).size_level0)
    run.check_same(read_header(path))
    models = run.judges(slide_id).models
    return measure_slide(
        models,
        features,
        folds=[model for model in run.models if model not in models],
        seeds=[model for other in others for model in other.judges(slide_id).models],
        truth=None if lesion is None else TruthMask(lesion, downsample),
        draws=draws,
    )


def _check_covers(mask: Path, shape: tuple[int, ...], downsample: float, size_level0: tuple[int, int] | None) -> None:
    """Make sure that a mask is as large as its slide, within a pixel of its own.  Raises: SlideError."""
    if size_level0 is None:
        return
    covered = shape[1] * downsample, shape[0] * downsample
    if max(abs(one - other) for one, other in zip(covered, size_level0, strict=True)) > max(1.0, downsample):
        raise SlideError(
            f"{mask} of {shape[1]} x {shape[0]} pixels covers {covered[0]:g} x {covered[1]:g} level-0 pixels at "
            f"{downsample:g} a pixel, and its slide has {size_level0[0]} x {size_level0[1]}; expected a mask of the "
            "whole slide: give the right one, or its --truth-downsample"
        )


def _mask(truth: Path | None, slide_id: str) -> Path | None:
    path = None if truth is None else truth / f"{slide_id}.png"
    return path if path is not None and path.is_file() else None
