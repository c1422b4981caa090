"""What cross-validation says while it works, as events: whoever listens decides what to show."""

from collections.abc import Callable
from dataclasses import dataclass

from dtcwsi.bags.cohort import Cohort
from dtcwsi.training.folds import FoldChoice
from dtcwsi.training.left_out import left_out_sentences, some
from dtcwsi.training.module import Epoch
from dtcwsi.training.plan import TrainingPlan

__all__ = [
    "Tell",
    "TrainingEvent",
    "epoch_teller",
    "pretrained_teller",
    "tell_of_fold",
    "tell_of_slides",
    "trial_teller",
]


@dataclass(frozen=True)
class TrainingEvent:
    """Something worth telling while folds are trained.

    ``kind`` is slides_left_out, renamed, classes_alike, mixed_patients, fold_begins, trial, pretrained, epoch,
    fold_ends, fold_kept (finished earlier) or fold_failed.
    """

    kind: str
    message: str
    fold: int | None = None
    epoch: Epoch | None = None


Tell = Callable[[TrainingEvent], None]


def tell_of_slides(cohort: Cohort, choice: FoldChoice, tell: Tell) -> None:
    """Say which slides take no part, which classes look like one, and which patients are of several."""
    for sentence in left_out_sentences(cohort):
        tell(TrainingEvent("slides_left_out", sentence))
    if cohort.renamed:
        pairs = [f"{name} records {recorded}" for name, recorded in cohort.renamed.items()]
        many = len(pairs) > 1
        files = f"{len(pairs)} feature files record" if many else "1 feature file records"
        told = f"{files} another slide than {'their' if many else 'its'} name, which counts: {some(pairs)}"
        tell(TrainingEvent("renamed", told))
    for names in cohort.classes_alike:
        told = f"{len(names)} classes, {', '.join(map(repr, names))}, differ in case or spaces alone"
        tell(TrainingEvent("classes_alike", f"{told}; if they are one, write them alike in the labels"))
    mixed = cohort.patients_of_several_classes
    if mixed:
        owners = f"{len(mixed)} patient{'s have' if len(mixed) > 1 else ' has'}"
        tell(TrainingEvent("mixed_patients", f"{owners} slides of several classes: {some(mixed)}"))
    strangers = choice.strangers(cohort)
    if strangers:
        told = f"{len(strangers)} slides of the split files are not in the cohort and take no part: {some(strangers)}"
        tell(TrainingEvent("slides_left_out", told))


def tell_of_fold(plan: TrainingPlan, fold: int, tell: Tell) -> None:
    """Say how many slides train and validate, which classes nothing validates, which sites do both."""
    split, cohort = plan.splits[fold], plan.cohort
    missing = sorted(set(cohort.class_names) - {cohort.labels[index] for index in split.val})
    without = f", none of class {', '.join(missing)}" if missing else ""
    shared = plan.choice.shared_sites(cohort, split)
    too_few = f", of sites that are trained on, as there are too few: {some(shared)}" if shared else ""
    told = f"{len(split.train)} slides to train on, {len(split.val)} to validate on{without}{too_few}"
    tell(TrainingEvent("fold_begins", f"fold {fold}: {told}", fold))


def epoch_teller(tell: Tell, fold: int, epochs: int) -> Callable[[Epoch], None]:
    """Say how each of the ``epochs`` ended."""

    def told(row: Epoch) -> None:
        message = f"fold {fold} epoch {row.epoch}/{epochs}: validation loss {row.val_loss:.4f}"
        tell(TrainingEvent("epoch", message, fold, row))

    return told


def pretrained_teller(tell: Tell, fold: int) -> Callable[[list[float]], None]:
    """Say how the losses of the self-supervised phase went."""

    def told(losses: list[float]) -> None:
        steps = f"{len(losses)} self-supervised steps, loss {losses[0]:.3f} to {losses[-1]:.3f}"
        tell(TrainingEvent("pretrained", f"fold {fold}: {steps}", fold))

    return told


def trial_teller(tell: Tell, fold: int) -> Callable[[str], None]:
    """Say how each trial of a search ended."""
    return lambda line: tell(TrainingEvent("trial", line, fold))
