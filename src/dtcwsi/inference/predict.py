"""One slide through every fold of a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.classifier import Classifier
from dtcwsi.ensemble import Answers, ask
from dtcwsi.errors import FeaturesError, UsageError
from dtcwsi.model_folder import written_by
from dtcwsi.models import load
from dtcwsi.store.checksums import read_checksums
from dtcwsi.store.features import MADE_BY_IF_ASKED, FeaturesHeader, read_features, read_header
from dtcwsi.store.tables import read_rows
from dtcwsi.types import Features

_MAY_DIFFER = ("tissue_parameters",)  # they follow the slide: a pale one is segmented with others

__all__ = ["Run", "SlidePrediction", "doubts", "judged", "load_run", "predict_file", "predict_slide"]


@dataclass(frozen=True)
class Run:
    """The trained folds of a run; ``made_by`` says how the features they were trained on were made.

    ``folds`` names each model's fold, and ``seen`` holds the slide ids that it was trained on or chosen by.
    ``patients`` and ``labels`` are those of the slides of the run's cohort, ``checksums`` those of their files where
    known. ``n_folds`` is how many folds the run was planned to have: more than ``models`` if it is unfinished.
    ``version`` is that of the dtcwsi which trained it, if known.
    """

    folder: Path
    models: tuple[Classifier, ...]
    made_by: dict[str, Any]
    n_folds: int
    folds: tuple[str, ...] = ()
    seen: tuple[frozenset[str], ...] = ()
    patients: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    version: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the probabilities."""
        return self.models[0].class_names

    @property
    def trained_on(self) -> frozenset[str]:
        """The slides that any of the models has seen."""
        return frozenset().union(*self.seen)

    def not_trained_on(self, slide_id: str) -> tuple[int, ...]:
        """Number the models that never saw a slide, nor another of its patient, if the run's cohort has it.

        All for a new slide, one for a slide of the cohort where folds are those of cross-validation.
        """
        akin = self._slides_of.get(self.patients.get(slide_id, ""), set()) | {slide_id}
        return tuple(number for number, slides in enumerate(self.seen) if akin.isdisjoint(slides))

    @cached_property
    def _slides_of(self) -> dict[str, set[str]]:
        """The cohort's slides by patient."""
        slides: dict[str, set[str]] = {}
        for slide_id, patient in self.patients.items():
            slides.setdefault(patient, set()).add(slide_id)
        return slides

    def another_slide(self, header: FeaturesHeader) -> str | None:
        """Say that features are of another file than the slide of their name in the run's cohort; None if they are not.

        Nothing is known of features, or runs, that do not record their slides' checksums.
        """
        known = self.checksums.get(header.slide_id)
        if known is None or header.slide_fingerprint in (None, known):
            return None
        return (
            f"{header.slide_id!r} is another file than the slide of that name in the cohort of {self.folder} (checksum "
            f"{header.slide_fingerprint}, there {known}); rename it if it is another slide, and if it is the same one "
            "saved anew take the file that the run knows"
        )

    def check_same(self, header: FeaturesHeader) -> None:
        """Make sure that a name of the cohort is that slide's, whose folds, patient and class are taken by it.

        Raises: FeaturesError if it is another file.
        """
        another = self.another_slide(header)
        if another is not None:
            raise FeaturesError(another)

    def judges(self, slide_id: str) -> "Run":
        """Keep the models that may judge a slide: those that were not trained on it, all if every one was."""
        unseen = self.not_trained_on(slide_id)
        return self.only(unseen) if unseen else self

    def only(self, numbers: Sequence[int]) -> "Run":
        """Keep some of the models."""
        return replace(
            self,
            models=tuple(self.models[number] for number in numbers),
            folds=tuple(self.folds[number] for number in numbers),
            seen=tuple(self.seen[number] for number in numbers),
        )


@dataclass(frozen=True)
class SlidePrediction:
    """A slide's class: ``probabilities`` (classes,) are the folds' mean, ``std`` their deviation for that class.

    One model alone has no deviation: None.
    """

    slide_id: str
    prediction: str
    probabilities: NDArray[np.float64]
    std: float | None
    tokens_in: int
    tokens_out: int
    warning: str = ""


def load_run(folder: Path) -> Run:
    """Load the models of a run, or of one of its folds.

    Raises: UsageError if the folder holds no trained fold, or folds of different classes.
    """
    folds = [folder] if (folder / "card.json").is_file() else sorted(folder.glob("fold*/card.json"))
    folds = [fold if fold.is_dir() else fold.parent for fold in folds]
    if not folds:
        raise UsageError(f"{folder} holds no trained model; expected a run folder of `dtcwsi train`, or one fold of it")
    models = tuple(load(fold) for fold in folds)
    if len({model.class_names for model in models}) > 1:
        raise UsageError(f"the folds of {folder} have different classes; train them again with one labels file")
    card = json.loads((folds[0] / "card.json").read_text(encoding="utf-8"))
    cohort = read_rows(folder / "folds.csv")
    whole = folder if cohort else folder.resolve().parent
    table = read_rows(whole / "folds.csv")
    return Run(
        folder,
        models,
        made_by=card.get("features", {}),
        version=written_by(card),
        n_folds=max(len(models), _planned_folds(folder, cohort)),
        folds=tuple(fold.resolve().name for fold in folds),
        seen=tuple(_seen(fold) for fold in folds),
        patients={row["slide_id"]: row["patient_id"] for row in table},
        labels={row["slide_id"]: row["label"] for row in table if row.get("label")},
        checksums=read_checksums(whole),
    )


def _planned_folds(folder: Path, cohort: Sequence[Mapping[str, str]]) -> int:
    """Count the folds that a run is to have: the partitions of split files, which may test a slide twice or never."""
    settings = folder / "settings.json"
    splits = json.loads(settings.read_text(encoding="utf-8")).get("splits") if settings.is_file() else None
    return len(splits) if splits else len({row["fold"] for row in cohort if row["fold"]})


def _seen(fold: Path) -> frozenset[str]:
    return frozenset(row["slide_id"] for row in read_rows(fold / "split.csv") if row["part"] != "test")


def predict_file(run: Run, path: Path) -> SlidePrediction:
    """Classify a feature file by the mean of the run's models; see `judged`.

    Raises: FeaturesError if the file cannot be read or its width is not the run's.
    """
    return judged(run, read_header(path), ask(run.models, read_features(path)))


def judged(run: Run, header: FeaturesHeader, answers: Answers) -> SlidePrediction:
    """Give the prediction that the answers of a run's models are.

    The warning is ``no_tissue`` if the slide has no patches, and `doubts`; parts are separated by ``; ``.
    """
    found = _prediction(header.slide_id, answers)
    return replace(found, warning="; ".join([*filter(None, [found.warning]), *doubts(run, header)]))


def doubts(run: Run, header: FeaturesHeader) -> list[str]:
    """Say why a run's prediction from a feature file may not hold.

    ``in_training`` if one of the models has seen the slide, by its file's name or by what the file records, or that the
    run knows another slide by this name; the slide recorded if that is another; what the features were made with if
    the run's were made otherwise, or if the file does not say and the run's did.
    """
    made_by = header.made_by
    differing = [
        f"{name} is {value}, trained with {run.made_by[name]}"
        for name, value in made_by.items()
        if name not in _MAY_DIFFER and None not in (value, run.made_by.get(name)) and value != run.made_by[name]
    ]
    differing += [
        f"{name} is {made_by.get(name)}, trained with {run.made_by.get(name)}"
        for name in MADE_BY_IF_ASKED
        if (made_by.get(name) is None) != (run.made_by.get(name) is None)
    ]
    if made_by.get("encoder") is None and run.made_by.get("encoder") is not None:
        differing.append(f"the file does not say which encoder made it, trained with {run.made_by['encoder']}")
    known = [header.slide_id, *filter(None, [header.recorded_id])]
    another = run.another_slide(header)
    in_training = ["in_training"] if another is None and not run.trained_on.isdisjoint(known) else []
    differing += [f"the file holds features of {name!r}" for name in known[1:] if name != header.slide_id]
    differing += filter(None, [another])
    return [*in_training, *differing]


def predict_slide(models: Sequence[Classifier], features: Features) -> SlidePrediction:
    """Classify a slide by the mean of the models' probabilities.

    A slide without patches gets the training class shares and the warning ``no_tissue``.
    Raises: UsageError if there is no model; FeaturesError if the features' width is not the models'.
    """
    return _prediction(features.slide_id, ask(models, features))


def _prediction(slide_id: str, answers: Answers) -> SlidePrediction:
    first = answers.predictions[0]
    return SlidePrediction(
        slide_id=slide_id,
        prediction=answers.prediction,
        probabilities=answers.probabilities,
        std=float(answers.each[:, answers.probabilities.argmax()].std()) if len(answers.each) > 1 else None,
        tokens_in=int(first.tokens_in[0]),
        tokens_out=int(first.tokens_out[0]),
        warning="" if int(first.tokens_in[0]) else "no_tissue",
    )
