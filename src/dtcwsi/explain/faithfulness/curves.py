"""Deletion and insertion: what becomes of the decision as patches are taken away, or put back, in a map's order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.classifier import Classifier
from dtcwsi.explain.faithfulness.asking import MAX_TOKENS, chances_of
from dtcwsi.types import Bag

__all__ = ["SHARES", "Curve", "Curves", "curves_of", "mean_curves"]

SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Steps of the curves: close together where a lesion of a few percent is taken away."""


@dataclass(frozen=True)
class Curve:
    """``probability`` and ``margin`` (logits) of the class predicted for the whole bag, after each of `SHARES`."""

    probability: NDArray[np.float64]
    margin: NDArray[np.float64]

    @property
    def probability_area(self) -> float:
        """Area under the probability over the share of patches, 0 to 1."""
        return float(np.trapezoid(self.probability, SHARES))

    @property
    def margin_area(self) -> float:
        """Area under the margin over the share of patches: its mean, in logits."""
        return float(np.trapezoid(self.margin, SHARES))


@dataclass(frozen=True)
class Curves:
    """One order's curves: ``deletion`` takes the first patches away, ``insertion`` starts from none and adds them."""

    deletion: Curve
    insertion: Curve


def curves_of(
    models: Sequence[Classifier],
    bag: Bag,
    orders: Mapping[str, NDArray[np.int64]],
    target: int,
    *,
    max_tokens: int = MAX_TOKENS,
) -> dict[str, Curves]:
    """Follow class ``target`` as patches are deleted and inserted in each order of all N patches.

    A step of share s moves the first ceil(s N) patches. The models are asked about each part of the bag as about any
    bag: one that compresses does so anew, so that a patch that it pruned in the whole may be a token of a part. What
    is left of a bag without patches is the prior, see `Classifier.predict`. Several models answer by their mean.
    Source: Petsiuk et al. 2018, "RISE", for the curves.
    """
    moved = [int(np.ceil(share * len(bag) - 1e-9)) for share in SHARES]
    parts = [part for order in orders.values() for count in moved for part in (order[count:], order[:count])]
    told = chances_of(models, bag, parts, target, max_tokens=max_tokens)
    shape = (len(orders), len(SHARES), 2)
    probability, margin = told.probability.reshape(shape), told.margin.reshape(shape)
    return {
        name: Curves(*(Curve(probability[number, :, way], margin[number, :, way]) for way in (0, 1)))
        for number, name in enumerate(orders)
    }


def mean_curves(several: Sequence[Curves]) -> Curves:
    """Average curves step by step."""
    return Curves(_mean([each.deletion for each in several]), _mean([each.insertion for each in several]))


def _mean(curves: Sequence[Curve]) -> Curve:
    return Curve(
        np.asarray(np.mean([curve.probability for curve in curves], axis=0)),
        np.asarray(np.mean([curve.margin for curve in curves], axis=0)),
    )
