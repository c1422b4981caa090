"""Slides or feature files named on a command line, brought to features as a run wants them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtcwsi.cli.console import say
from dtcwsi.cli.options import pick_device
from dtcwsi.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from dtcwsi.encoders import Encoder
    from dtcwsi.inference import Run

__all__ = ["Input", "Reading", "bring_features", "check_places"]

_FEATURE_SUFFIXES = {".h5", ".hdf5"}


@dataclass(frozen=True)
class Input:
    """One slide of a command: its feature file and, if it was named as a slide, the slide; or why there is none."""

    slide_id: str
    features: Path | None = None
    slide: Path | None = None
    failure: str = ""


@dataclass(frozen=True)
class Reading:
    """How slides are read for a run; ``encoder`` says where its weights are if its name does not.

    Raises: UsageError if the device cannot be had.
    """

    work: Path
    encoder: str | None = None
    spacing_um: float | None = None
    workers: int = 1
    device: str | None = None

    def __post_init__(self) -> None:
        if self.device is not None:
            pick_device(self.device)  # though all features may be there already


def check_places(places: list[Path]) -> None:
    """Make sure that everything named is there, before anything is written.  Raises: UsageError if not."""
    from dtcwsi.slides import find_slides

    _, slides = _sort(places)
    if slides:
        find_slides(slides)


def bring_features(run: "Run", places: list[Path], reading: Reading) -> list[Input]:
    """Find features of everything named; slides go through the pipeline as the run's training slides did.

    The reading's ``work`` keeps what was extracted, so that a second command finds it finished.
    Raises: UsageError if a place does not exist, ids repeat, or the run's encoder is not known.
    """
    _warn_of_run(run)
    files, slides = _sort(places)
    inputs = [Input(path.stem, features=path) for path in files]
    if slides:
        inputs += _extracted(run, slides, reading)
    inputs.sort(key=lambda item: _rank(item, places))
    ids = [item.slide_id for item in inputs]
    repeated = next((slide_id for slide_id in ids if ids.count(slide_id) > 1), None)
    if repeated is not None:
        raise UsageError(f"the slide id {repeated!r} was named more than once; name each slide once")
    return inputs


def _warn_of_run(run: "Run") -> None:
    """Say what may be wrong with a run that can be loaded.

    Weights that another version's code cannot take, and other formats, are refused by `dtcwsi.load`; what is left may
    still compute other things with the same weights, which nothing here can tell.
    """
    from dtcwsi.model_folder import package_versions

    if len(run.models) < run.n_folds:
        say(f"warning: {run.folder} has {len(run.models)} of {run.n_folds} folds; train it to its end for the others")
    here = package_versions()["dtcwsi"]
    if run.version not in (None, here) and run.version[0].isdigit():
        say(
            f"warning: {run.folder} was trained with dtcwsi {run.version}, and this is {here}: its predictions may "
            f"differ; compare them with the run's predictions.csv, or install dtcwsi {run.version}"
        )


def _rank(item: Input, places: list[Path]) -> tuple[int, str]:
    """The order in which places were named; by id within a folder."""
    source = item.slide or item.features
    assert source is not None
    return next(number for number, place in enumerate(places) if place in (source, source.parent)), item.slide_id


def _sort(places: list[Path]) -> tuple[list[Path], list[Path]]:
    """Tell feature files, also those inside folders, from slides."""
    files: list[Path] = []
    slides: list[Path] = []
    for place in places:
        inside = sorted(place.glob("*.h5")) if place.is_dir() else []
        if place.suffix.lower() in _FEATURE_SUFFIXES and not place.exists():
            raise UsageError(f"{place} does not exist; expected a feature file, a slide or a folder")
        files += [place] if place.suffix.lower() in _FEATURE_SUFFIXES else inside
        if place.suffix.lower() not in _FEATURE_SUFFIXES and not inside:
            slides.append(place)
    return files, slides


def _encoder(run: "Run", reading: Reading) -> "Encoder":
    """The encoder that the run's features came from.  Raises: UsageError if it cannot be had here."""
    from dtcwsi.encoders import Encoder, StainedEncoder, load_encoder
    from dtcwsi.stain import stain_as_recorded

    facts = run.made_by.get("stain")
    stain = stain_as_recorded(facts) if facts else None
    name = run.made_by["encoder"].removesuffix("" if stain is None else f"+{stain.name}")
    try:
        encoder: Encoder = load_encoder(reading.encoder or name, device=pick_device(reading.device))
    except EncoderError as error:
        advice = "" if reading.encoder else f"; {run.folder} was trained on {name}: say where it is with --encoder"
        raise UsageError(f"{error}{advice}") from error
    encoder = encoder if stain is None else StainedEncoder(encoder, stain)
    if run.made_by.get("encoder_digest") not in (None, encoder.digest):
        raise UsageError(
            f"the encoder {encoder.name!r} here has other weights than the one that {run.folder} was trained on; "
            "install the same weights or train again"
        )
    return encoder


def _extracted(run: "Run", places: list[Path], reading: Reading) -> Iterator[Input]:
    from dtcwsi.cli.extract_run import run_with_progress
    from dtcwsi.extraction import Extraction
    from dtcwsi.patches import GridParameters, QualityParameters
    from dtcwsi.slides import find_slides
    from dtcwsi.store.atomic import check_writable
    from dtcwsi.tissue import TissueParameters

    made = run.made_by
    if not made.get("encoder") or not made.get("patch_size_px"):
        raise UsageError(
            f"{run.folder} was trained on features of another tool, whose encoder is not known here; "
            "name feature files instead of slides"
        )
    found = find_slides(places)
    check_writable(reading.work)
    encoder = _encoder(run, reading)
    plan = Extraction(
        out=reading.work,
        tissue=TissueParameters(**json.loads(made.get("tissue_parameters") or "{}")),
        grid=GridParameters(
            int(made["patch_size_px"]),
            float(made["patch_spacing_um"]),
            made.get("min_tissue_fraction") or GridParameters().min_tissue_fraction,
        ),
        quality=QualityParameters(**json.loads(made["quality"])) if made.get("quality") else None,
        encoder=encoder,
        spacing_um=reading.spacing_um,
        workers=reading.workers,
    )
    summary = run_with_progress(found, plan)
    failures = {slide_id: reason for slide_id, _, reason in summary.failed}
    for slide_id, path in found.items():
        if slide_id in failures:
            yield Input(slide_id, slide=path, failure=failures[slide_id])
        else:
            yield Input(slide_id, features=summary.results[slide_id].features_file, slide=path)
