"""Which of a run's models may judge a slide."""

from typing import TYPE_CHECKING

from dtcwsi.cli.console import some

if TYPE_CHECKING:
    from dtcwsi.inference import Run
    from dtcwsi.store.features import FeaturesHeader

__all__ = ["judges_of"]


def judges_of(trained: "Run", header: "FeaturesHeader") -> "tuple[Run, str]":
    """Choose the models that never saw a slide, all if every one has; and the words for them.

    Raises: FeaturesError if the run knows another slide by the same name, whose folds and class are not this one's.
    """
    trained.check_same(header)
    slide_id = header.slide_id
    name, many = trained.models[0].name, len(trained.models)
    unseen = trained.not_trained_on(slide_id)
    if len(unseen) == many:
        return trained, f"{name}, {trained.folds[0]}" if many == 1 else f"{name}, mean of {many} fold models"
    if not unseen:
        return trained, f"{name}, {some(trained.folds)}, trained on this slide or its patient, which makes it too sure"
    folds = some(trained.folds[number] for number in unseen)
    return trained.judges(slide_id), f"{name}, {folds}, not trained on this slide or its patient"
