"""Runs kept by what made them, so that tables share what they have in common and nothing is trained twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dtcwsi.bags.cohort import Cohort
from dtcwsi.bags.split_files import PARTS, read_splits
from dtcwsi.benchmark.tables.definitions import Configuration
from dtcwsi.catalog import model_recipe, needs_whole_batches
from dtcwsi.errors import DtcwsiError
from dtcwsi.options import check_whole_number, one_of
from dtcwsi.recipe import COMMON
from dtcwsi.store.digest import digest
from dtcwsi.training.crossval import DEFAULT_MAX_TOKENS, RunRecord, TrainingEvent, cross_validate
from dtcwsi.training.data import DEFAULT_CACHE_BYTES
from dtcwsi.training.folds import FoldChoice
from dtcwsi.training.plan import RECIPES
from dtcwsi.training.run_folder import RunFolder
from dtcwsi.training.search import Search
from dtcwsi.training.slides import CohortSlides

__all__ = ["CohortUse", "Protocol", "Shelf", "Trained"]

Trained = tuple[RunRecord | DtcwsiError, Sequence[TrainingEvent]]
"""A run, or why there is none, and what was said while it was trained."""


@dataclass(frozen=True)
class Protocol:
    """How every model of a table is trained: the paper's five folds, once or with several ``seeds``.

    ``recipe`` is common, the same for all, or published, each model's own; ``epochs`` changes its length,
    ``batch_size`` the slides of a step, ``class_weights`` what rare classes count; ``search`` chooses in every fold, of
    each model those of its options that the table leaves open. ``splits`` and ``group`` deal the
    cohort out otherwise, ``max_tokens`` patches are computed at once: see `cross_validate`.
    """

    folds: int | None = None
    seeds: int = 1
    recipe: str = "common"
    epochs: int | None = None
    splits: tuple[Path, ...] = ()
    group: str = "patient"
    max_tokens: int = DEFAULT_MAX_TOKENS
    batch_size: int | None = None
    class_weights: str | None = None
    search: Search | None = None

    def check(self) -> None:
        """Look at every setting before any work.  Raises: OptionError for one that is none or contradicts another."""
        one_of("recipe", self.recipe, RECIPES)
        check_whole_number("max_tokens", self.max_tokens)
        replace(COMMON, **self._changes)  # a trial of each number
        FoldChoice(self.folds, self.group, self.splits)

    @property
    def _changes(self) -> dict[str, Any]:
        """What is changed of a recipe."""
        changes = {"epochs": self.epochs, "batch_size": self.batch_size, "class_weights": self.class_weights}
        return {name: value for name, value in changes.items() if value is not None}

    @property
    def choice(self) -> FoldChoice:
        """How the cohort is dealt out.  Raises: OptionError if that contradicts itself."""
        return FoldChoice(self.folds, self.group, self.splits)

    @property
    def told(self) -> dict[str, Any]:
        """All of it, for a page."""
        search = None if self.search is None else self.search.told
        return {**asdict(replace(self, search=None)), "splits": [str(path) for path in self.splits], "search": search}

    def search_of(self, what: Configuration) -> Search | None:
        """Give what is searched of a configuration; None for nothing."""
        return None if self.search is None else self.search.of(what.model, what.options)

    @property
    def made(self) -> dict[str, Any]:
        """Tell what a run follows from beside slides, model and seed; what few use is told only where it is used."""
        told: dict[str, Any] = {"folds": self.folds, "recipe": self.recipe, "epochs": None, **self._changes}
        if self.group != "patient":
            told["group"] = self.group
        if self.splits:
            told["splits"] = [[one.parts[part] for part in PARTS] for one in read_splits(self.splits).partitions]
        return told


def _departs(model: str) -> dict[str, Any]:
    """Tell what a model's published recipe has otherwise than the common one."""
    recipe = asdict(model_recipe(model) or COMMON)
    return {name: value for name, value in recipe.items() if name != "source" and value != getattr(COMMON, name)}


@dataclass(frozen=True)
class CohortUse:
    """How many slides are trained on, of how many patients; slides that are not, by what became of them.

    ``refused`` gives the reason of each slide that should have been used. ``mixed`` are patients with slides of several
    classes.
    """

    slides: int
    patients: int
    refused: Mapping[str, str]
    no_tissue: int
    without_features: int
    mixed: tuple[str, ...] = ()

    @property
    def labelled(self) -> int:
        """How many slides have a label."""
        return self.slides + len(self.refused) + self.no_tissue + self.without_features

    def __str__(self) -> str:
        lost = {
            "refused": len(self.refused),
            "without tissue": self.no_tissue,
            "without features": self.without_features,
        }
        told = ", ".join(f"{number} {what}" for what, number in lost.items() if number)
        of_all = f"{self.slides} of {self.labelled} slides used ({told})," if told else f"{self.slides} slides"
        of_several = f", {len(self.mixed)} of them with slides of several classes" if self.mixed else ""
        return f"{of_all} of {self.patients} patients{of_several}"


class Shelf:
    """Run folders of a cohort under one protocol; a folder's name is its model and the digest of all that made it.

    Slides are read for the first run that needs them, once for all runs. ``seconds_a_patch`` is what reading and
    encoding took when the features were made, if that is known. ``device`` and ``devices`` train: see `cross_validate`.
    Slides that were read are kept up to ``cache_bytes``. ``ahead`` waits, by folder, for runs that others train: see
    `trained_ahead`.
    """

    def __init__(
        self,
        folder: Path,
        cohort: Cohort,
        protocol: Protocol,
        seconds_a_patch: Mapping[str, float] | None = None,
        *,
        device: str = "auto",
        devices: int = 1,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.folder, self.cohort, self.protocol = folder, cohort, protocol
        self.device, self.devices = device, devices
        self.ahead: dict[Path, Callable[[], Trained | None]] = {}
        self.seconds_a_patch = dict(seconds_a_patch or {})
        self._slides = CohortSlides(cohort, cache_bytes=cache_bytes)
        self._use: CohortUse | None = None
        self._said: set[str] = set()
        slides = [
            [slide.slide_id, slide.label, slide.patient_id, slide.fold, seen, *protocol.choice.seen_of(slide)]
            for slide, seen in zip(cohort.slides, self._slides.features.fingerprints, strict=True)
        ]
        self._made = digest(slides=slides, **protocol.made)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what others train: another process has nobody to wait for."""
        return {**self.__dict__, "ahead": {}}

    @property
    def use(self) -> CohortUse:
        """What became of the cohort's slides, as the last run found it, or before any as the files' headers tell."""
        cohort = self.cohort
        none, away = len(cohort.no_tissue), len(cohort.without_features)
        mixed = cohort.patients_of_several_classes
        return self._use or CohortUse(len(cohort.slides), len(set(cohort.patients)), cohort.refused, none, away, mixed)

    def place(self, what: Configuration, seed: int) -> Path:
        """Name the folder of a configuration's run."""
        limit = self.protocol.max_tokens
        bounds_batches = limit != DEFAULT_MAX_TOKENS and needs_whole_batches(what.model)
        further: dict[str, Any] = {"max_tokens": limit} if bounds_batches else {}
        if self.protocol.recipe == "published":
            further["published"] = _departs(what.model)  # a recipe that is put right makes another run
        search = self.protocol.search_of(what)
        if search is not None:
            further["search"] = search.told
        if self._devices_of(what) > 1:
            further["devices"] = self.devices
        made = digest(self._made, model=what.model, options=dict(what.options), seed=seed, **further)
        return self.folder / f"{what.model}-{made[:10]}"

    def _devices_of(self, what: Configuration) -> int:
        """One device for a model whose slides depend on each other in training."""
        return 1 if needs_whole_batches(what.model) else self.devices

    def holds(self, what: Configuration) -> bool:
        """Tell whether a configuration's runs came to their end; whether they are whole still, `train` finds out."""
        return all(RunFolder.ended(self.place(what, seed)) for seed in range(self.protocol.seeds))

    def train(
        self, what: Configuration, seed: int, on_event: Callable[[TrainingEvent], None] | None = None
    ) -> RunRecord:
        """Train what is missing of a configuration's run, or wait for who does; folds that are there are read.

        What events say of the cohort is said for the first run only.
        Raises: what `cross_validate` raises for the model or the cohort.
        """
        place = self.place(what, seed)
        waited = self.ahead.pop(place, lambda: None)()
        record, events = waited or (self._trained(what, seed, place, on_event), ())
        for event in events:
            self._tell(event, on_event)
        if isinstance(record, DtcwsiError):
            raise record
        lost = record.metrics["left_out"]
        self._use = CohortUse(
            slides=record.metrics["n_slides"],
            patients=record.metrics["n_patients"],
            refused=lost["refused"],
            no_tissue=len(lost["no_tissue"]),
            without_features=len(lost["without_features"]),
            mixed=self.cohort.without(lost["refused"]).patients_of_several_classes,
        )
        return record

    def _trained(
        self, what: Configuration, seed: int, place: Path, on_event: Callable[[TrainingEvent], None] | None
    ) -> RunRecord:
        protocol = self.protocol
        return cross_validate(
            self._slides,
            model=what.model,
            out=place,
            options=what.options,
            folds=protocol.folds,
            splits=protocol.splits,
            group=protocol.group,
            recipe=protocol.recipe,
            epochs=protocol.epochs,
            batch_size=protocol.batch_size,
            class_weights=protocol.class_weights,
            search=protocol.search_of(what),
            max_tokens=protocol.max_tokens,
            seed=seed,
            device=self.device,
            devices=self._devices_of(what),
            on_event=lambda event: self._tell(event, on_event),
        )

    def _tell(self, event: TrainingEvent, on_event: Callable[[TrainingEvent], None] | None) -> None:
        of_cohort = event.fold is None
        if on_event is not None and not (of_cohort and event.message in self._said):
            on_event(event)
        self._said |= {event.message} if of_cohort else set()

    def release(self) -> None:
        """Give back the memory of slides that were read."""
        self._slides.release()
