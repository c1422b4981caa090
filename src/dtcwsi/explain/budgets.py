"""One model's weights at several budgets, for one slide."""

from collections.abc import Sequence
from dataclasses import dataclass

from dtcwsi.classifier import Classifier
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.ensemble import ask
from dtcwsi.errors import OptionError
from dtcwsi.explain.fates import PatchFates, fates_of
from dtcwsi.models import with_retention
from dtcwsi.types import Features, Prediction

__all__ = ["Budget", "at_retentions", "retention_of"]


@dataclass(frozen=True)
class Budget:
    """A model at one final share of tokens: what becomes of the patches, and the class it tells how surely.

    ``retention`` is None if the model has none; ``trained`` says that the model was trained at this very budget.
    """

    retention: float | None
    trained: bool
    fates: PatchFates
    prediction: str
    probability: float

    @property
    def name(self) -> str:
        """The budget in words."""
        return "as it is" if self.retention is None else f"r = {self.retention:g}"

    @property
    def told(self) -> str:
        """The likeliest class and its probability; no prediction without patches."""
        said = f"{self.prediction} {self.probability:.2f}" if len(self.fates) else "no prediction"
        return f"as trained, {said}" if self.trained and self.retention is not None else said


def at_retentions(
    model: Classifier, features: Features, own: Prediction, retentions: Sequence[float]
) -> tuple[list[Budget], str]:
    """Ask a model at each retention; ``own`` is what it says of the slide as it is.

    Returns: the budgets, and why there is only the model's own where it has no retention.
    Raises: FeaturesError as the model does.
    """
    try:
        others = [(share, with_retention(model, share)) for share in retentions]
    except OptionError as error:
        return [_budget(model, own, None, trained=True)], f"{error}."
    found = []
    for share, other in others:
        trained = _shares(other) == _shares(model)
        said = own if trained else ask([other], features).predictions[0]
        found.append(_budget(model, said, share, trained=trained))
    return found, ""


def retention_of(model: Classifier) -> float | None:
    """The final share of tokens that a model was trained at, None if it has no retention."""
    if not isinstance(model.compressor, StagedCompressor) or model.compressor.settings.get("budget") == "threshold":
        return None
    return model.compressor.shares[-1]


def _shares(model: Classifier) -> tuple[float, ...]:
    assert isinstance(model.compressor, StagedCompressor)
    return model.compressor.shares


def _budget(model: Classifier, said: Prediction, retention: float | None, *, trained: bool) -> Budget:
    chances = said.logits[0].double().softmax(dim=0)
    best = int(chances.argmax())
    return Budget(retention, trained, fates_of(said), model.class_names[best], float(chances[best]))
