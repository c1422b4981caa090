"""Several models asked about one slide: the one function behind predictions, pictures and heatmaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dtcwsi.bags.packing import bag_of, pack
from dtcwsi.classifier import Classifier
from dtcwsi.errors import UsageError
from dtcwsi.types import Features, PackedBags, Prediction

__all__ = ["Answers", "answer", "ask", "mean_attention"]


@dataclass(frozen=True)
class Answers:
    """What models say of one slide: their ``predictions``, and ``each`` (models, classes) of their probabilities."""

    class_names: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    each: NDArray[np.float64]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The mean over the models, (classes,)."""
        return np.asarray(self.each.mean(axis=0))

    @property
    def prediction(self) -> str:
        """The likeliest class."""
        return self.class_names[int(self.probabilities.argmax())]

    def attention(self, class_name: str | None = None) -> NDArray[np.float64]:
        """Average the models' attention, (patches,); where they have a map a class, that class's, or the predicted's.

        Raises: UsageError if there is no such class, or a class is named and the models have one map for all.
        """
        wanted = class_name or self.prediction
        if wanted not in self.class_names:
            raise UsageError(f"there is no class {wanted!r}; expected one of {', '.join(self.class_names)}")
        column = self.class_names.index(wanted)
        if class_name is not None and any(out.attention_by_class is None for out in self.predictions):
            raise UsageError(
                f"the model has one attention map for all classes, and none of {class_name!r} alone; leave the class "
                "out, or train a model with a map a class, such as clam-mb or dsmil"
            )
        return mean_attention(self.predictions, column)


def mean_attention(predictions: Sequence[Prediction], column: int | None) -> NDArray[np.float64]:
    """Average attention over models, (patches,).

    ``column`` is the class whose map is taken of models that have one a class; None: each model's predicted one.
    """
    each = [
        out.attention if out.attention_by_class is None or column is None else out.attention_by_class[:, column]
        for out in predictions
    ]
    return np.asarray(np.mean([values.double().cpu().numpy() for values in each], axis=0))


def ask(models: Sequence[Classifier], features: Features) -> Answers:
    """Ask every model about a slide, in evaluation mode and where its weights are.

    A slide without patches gets the training class shares.
    Raises: UsageError if there is no model; FeaturesError if the features' width is not the models'.
    """
    if not models:
        raise UsageError("no model was given to ask; expected at least one, such as those of a run's folds")
    bag = pack([bag_of(features)])
    predictions = tuple(_with_attention(answer(model, bag)) for model in models)
    each = torch.stack([out.logits[0].double().softmax(dim=0).cpu() for out in predictions]).numpy()
    return Answers(models[0].class_names, predictions, each)


def _with_attention(prediction: Prediction) -> Prediction:
    """Have the maps worked out, so that one model's tokens are held at a time."""
    _ = prediction.attention, prediction.attention_by_class
    return prediction


@torch.inference_mode()
def answer(model: Classifier, bags: PackedBags) -> Prediction:
    """Ask one model about bags, in evaluation mode and where its weights are."""
    was_training = model.training
    prediction: Prediction = model.eval()(bags.to(next(model.parameters()).device))
    model.train(was_training)
    return prediction
