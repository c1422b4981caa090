"""One model's weights at several budgets, for one slide."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

from dtcwsi.classifier import Classifier
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.ensemble import ask
from dtcwsi.errors import OptionError
from dtcwsi.explain.fates import PatchFates, fates_of
from dtcwsi.models import with_retention
from dtcwsi.types import Features, Prediction

__all__ = ["Budget", "at_retentions", "own_budget"]

_SAME = 5e-4  # shares that are told alike


@dataclass(frozen=True)
class Budget:
    """A model at one final share of tokens: what becomes of the patches, and the class it tells how surely.

    ``retention`` is None if the model has none; ``trained`` says that the model was trained at this very budget,
    ``even`` that it was trained at the same share, but by another schedule than even stages.
    """

    retention: float | None
    trained: bool
    fates: PatchFates
    prediction: str
    probability: float
    even: bool = False

    @property
    def name(self) -> str:
        """The budget in words."""
        if self.retention is None:
            return "as it is"
        return f"r = {self.retention:.3g}, even stages" if self.even else f"r = {self.retention:.3g}"

    @property
    def told(self) -> str:
        """The likeliest class and its probability; no prediction without patches."""
        said = f"{self.prediction} {self.probability:.2f}" if len(self.fates) else "no prediction"
        return f"as trained, {said}" if self.trained and self.retention is not None else said


def at_retentions(
    model: Classifier, features: Features, own: Prediction, retentions: Sequence[float], class_names: Sequence[str]
) -> tuple[list[Budget], str]:
    """Ask a model once at each retention; ``own`` is what it says of the slide as it is.

    Returns: the budgets, and why there is only the model's own where it has no retention.
    Raises: FeaturesError as the model does.
    """
    mine = own_budget(model, own, class_names)
    try:
        others = [(share, with_retention(model, share)) for share in dict.fromkeys(retentions)]
    except OptionError as error:
        return [mine], f"{error}."
    found = []
    for share, other in others:
        if _shares(other) == _shares(model):
            found.append(mine)
            continue
        even = isclose(share, _shares(model)[-1], abs_tol=_SAME)
        found.append(_budget(ask([other], features).predictions[0], class_names, share, even=even))
    return found, ""


def own_budget(model: Classifier, own: Prediction, class_names: Sequence[str]) -> Budget:
    """What a model says of a slide as it is, and at which final share of tokens."""
    return _budget(own, class_names, _retention(model), trained=True)


def _retention(model: Classifier) -> float | None:
    if not isinstance(model.compressor, StagedCompressor) or model.compressor.settings.get("budget") == "threshold":
        return None
    return model.compressor.shares[-1]


def _shares(model: Classifier) -> tuple[float, ...]:
    assert isinstance(model.compressor, StagedCompressor)
    return model.compressor.shares


def _budget(
    said: Prediction, class_names: Sequence[str], retention: float | None, *, trained: bool = False, even: bool = False
) -> Budget:
    chances = said.logits[0].double().softmax(dim=0)
    best = int(chances.argmax())
    return Budget(retention, trained, fates_of(said), class_names[best], float(chances[best]), even)
