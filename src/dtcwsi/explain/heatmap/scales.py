"""From attention to heat: the scales of heatmaps, of one slide or of several together.

What is scaled is a patch's share of attention times the slide's number of patches: 1 is an even share, so that slides
of any size can be compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import UsageError

__all__ = ["SCALES", "Scale", "scale_over", "shares_of"]

_LOWEST_SHARE = 0.01


@dataclass(frozen=True)
class Scale:
    """A scale from 0 to 1: what its ``label`` says, ``ticks`` (place, words) and the ``place`` of shares (N,) on it.

    ``caution`` says what its colours do not tell.
    """

    label: str
    ticks: tuple[tuple[float, str], ...]
    place: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    caution: str = ""

    def heat(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the heat of patches, (N,) in 0..1, NaN for those without attention."""
        return np.where(shares > 0, self.place(shares), np.nan)


def shares_of(attention: NDArray[np.float64]) -> NDArray[np.float64]:
    """Attention (N,) as multiples of an even share."""
    return attention * len(attention)


def scale_over(name: str, slides: Sequence[NDArray[np.float64]]) -> Scale:
    """Make the scale of ``SCALES`` that is called ``name`` over the shares of one slide's patches, or of several.

    ``percentile``: the share of the other patches that have less attention, ties counted half. ``rank``: the place
    counted from the most attention down, in powers of ten, so that the hottest patches of a large slide still differ.
    ``share``: multiples of an even share in powers of ten, from a hundredth on: flat attention looks flat.
    Raises: UsageError if there is no such scale.
    """
    if name not in SCALES:
        raise UsageError(f"there is no scale {name!r}; expected one of {', '.join(SCALES)}")
    where = "within this slide" if len(slides) == 1 else f"over {len(slides)} slides"
    return SCALES[name](np.sort(np.concatenate([np.zeros(0), *slides])), where)


def _percentile(ordered: NDArray[np.float64], where: str) -> Scale:
    def place(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        below = np.searchsorted(ordered, shares, side="left")
        ties = np.searchsorted(ordered, shares, side="right") - below - 1
        return np.asarray((below + ties / 2) / (len(ordered) - 1)) if len(ordered) > 1 else np.ones(len(shares))

    ticks = tuple((percent / 100, str(percent)) for percent in (0, 25, 50, 75, 100))
    caution = "Percentiles tell the order of patches, not how much more one has than another."
    return Scale(f"attention, percentile {where}", ticks, place, caution)


def _rank(ordered: NDArray[np.float64], where: str) -> Scale:
    many = max(2, len(ordered))

    def place(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        rank = 1 + len(ordered) - np.searchsorted(ordered, shares, side="right")
        return np.asarray(1 - np.log(rank) / math.log(many))

    powers = [10**power for power in range(math.ceil(math.log10(many))) if 10**power <= many / 2]
    ticks = tuple((1 - math.log(rank) / math.log(many), f"{rank:,}") for rank in (many, *reversed(powers)))
    return Scale(f"attention, rank {where} (1 is the most)", ticks, place)


def _share(ordered: NDArray[np.float64], where: str) -> Scale:
    most = float(ordered[-1]) if len(ordered) else 1.0
    low, high = round(math.log10(_LOWEST_SHARE)), max(1, math.ceil(math.log10(max(most, 1.0)) - 1e-9))

    def place(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((np.log10(np.maximum(shares, _LOWEST_SHARE)) - low) / (high - low)).clip(0, 1))

    words = {low: f"≤ {_LOWEST_SHARE:g}"}
    ticks = tuple(
        ((power - low) / (high - low), words.get(power, f"{10.0**power:g}")) for power in range(low, high + 1)
    )
    return Scale(f"attention, multiples of an even share; {where}", ticks, place)


SCALES: dict[str, Callable[[NDArray[np.float64], str], Scale]] = {
    "percentile": _percentile,
    "rank": _rank,
    "share": _share,
}
"""The scales by name."""
