"""How far a figure of several rows would go if they were measured or trained again: ratios, falls."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST", "interval_of"]

LEAST = 5
"""Of fewer values nothing is said."""

_DRAWS = 5_000
_PART = 95  # per cent


def interval_of(
    samples: Sequence[Sequence[float]],
    figure: Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]],
    *,
    paired: bool,
) -> tuple[float, float] | None:
    """Give the 95 % interval of a ``figure`` of rows, their ``samples`` drawn with replacement.

    Rows that are ``paired`` have the same folds and seeds, drawn together, and count by their means; others were
    measured apart and count by their medians. ``figure`` gets an array of as many of these as there are draws, a row.
    Returns: None with fewer than `LEAST` values of a row, or pairs that are none.
    Source: the percentile bootstrap of Efron and Tibshirani 1993, "An Introduction to the Bootstrap".
    """
    sizes = {len(values) for values in samples}
    if min(sizes) < LEAST or (paired and len(sizes) > 1):
        return None
    chance = np.random.default_rng(0)
    shared = chance.integers(min(sizes), size=(_DRAWS, min(sizes)))
    centres = []
    for values in samples:
        picked = shared if paired else chance.integers(len(values), size=(_DRAWS, len(values)))
        drawn = np.asarray(values, np.float64)[picked]
        centres.append(drawn.mean(axis=1) if paired else np.median(drawn, axis=1))
    low, high = np.percentile(figure(centres), [(100 - _PART) / 2, (100 + _PART) / 2])
    return float(low), float(high)
