"""Runs kept by what made them, so that tables share what they have in common and nothing is trained twice."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dtcwsi.bags.cohort import Cohort
from dtcwsi.benchmark.tables.definitions import Configuration
from dtcwsi.store.digest import digest, fingerprint
from dtcwsi.training.crossval import RunRecord, TrainingEvent, cross_validate

__all__ = ["Protocol", "Shelf"]


@dataclass(frozen=True)
class Protocol:
    """How every model of a table is trained: the paper's five folds, once or with several ``seeds``.

    ``recipe`` is common, the same for all, or published, each model's own; ``epochs`` changes its length.
    """

    folds: int | None = None
    seeds: int = 1
    recipe: str = "common"
    epochs: int | None = None


class Shelf:
    """Run folders of a cohort under one protocol; a folder's name is its model and the digest of all that made it.

    ``seconds_a_patch`` is what reading and encoding took when the features were made, if that is known.
    """

    def __init__(
        self, folder: Path, cohort: Cohort, protocol: Protocol, seconds_a_patch: Mapping[str, float] | None = None
    ) -> None:
        self.folder, self.cohort, self.protocol = folder, cohort, protocol
        self.seconds_a_patch = dict(seconds_a_patch or {})
        slides = [
            [slide.slide_id, slide.label, slide.patient_id, slide.fold, fingerprint(header.path)]
            for slide, header in zip(cohort.slides, cohort.headers, strict=True)
        ]
        how = {name: value for name, value in asdict(protocol).items() if name != "seeds"}
        self._made = digest(slides=slides, **how)

    def place(self, what: Configuration, seed: int) -> Path:
        """Name the folder of a configuration's run."""
        made = digest(self._made, model=what.model, options=dict(what.options), seed=seed)
        return self.folder / f"{what.model}-{made[:10]}"

    def train(
        self, what: Configuration, seed: int, on_event: Callable[[TrainingEvent], None] | None = None
    ) -> RunRecord:
        """Train what is missing of a configuration's run; folds that are there are read.

        Raises: what `cross_validate` raises for the model or the cohort.
        """
        return cross_validate(
            self.cohort,
            model=what.model,
            out=self.place(what, seed),
            options=what.options,
            folds=self.protocol.folds,
            recipe=self.protocol.recipe,
            epochs=self.protocol.epochs,
            seed=seed,
            on_event=on_event,
        )
