"""How sure a multiple of two rows is: an interval by what was trained or measured several times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["LEAST", "Multiple", "multiple_of"]

LEAST = 5
"""Of fewer values nothing is said."""

Samples = Mapping[str, float]
"""Values by where they come from: "seed 0, fold 3", or "process 2"."""


@dataclass(frozen=True)
class Multiple:
    """How many times another row's figure is a row's, by geometric means: ``value``, and its interval."""

    value: float
    low: float
    high: float


def multiple_of(one: Samples, other: Samples, *, level: float = 0.95) -> Multiple | None:
    """Divide ``other`` by ``one`` with a ``level`` interval: Student's t of their logarithms.

    Values of folds are taken in pairs, of the same seed and fold in both, their variance widened because folds share
    slides to train on; those of processes are no pairs and are compared by Welch's t.
    Returns: None of fewer than `LEAST` values or pairs, or where one is not above 0.
    Source: Nadeau and Bengio 2003, "Inference for the Generalization Error"; Welch 1947.
    """
    if any(value <= 0 for values in (one, other) for value in values.values()):
        return None
    both = [name for name in one if name in other]
    folds = {name.partition("fold ")[2] for name in one} - {""}
    mine, theirs = (np.log(list(values.values())) for values in (one, other))
    if folds:
        mine, theirs = (np.log([values[name] for name in both]) for values in (one, other))
    if min(len(mine), len(theirs)) < LEAST:
        return None
    if folds:
        steps = theirs - mine
        spread = steps.var(ddof=1) * (1 / len(steps) + 1 / max(1, len(folds) - 1))
        free = len(steps) - 1.0
    else:
        parts = [values.var(ddof=1) / len(values) for values in (mine, theirs)]
        spread = sum(parts)
        squares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (mine, theirs), strict=True))
        free = spread**2 / squares if squares else math.inf
    middle = float(theirs.mean() - mine.mean())
    reach = float(stats.t.ppf((1 + level) / 2, free) * math.sqrt(spread))
    return Multiple(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))
