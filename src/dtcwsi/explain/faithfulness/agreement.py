"""Do two maps of one slide agree?"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["TOP_SHARE", "spearman", "top_overlap"]

TOP_SHARE = 0.1


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Rank correlation of two maps (N,), ties sharing their mean rank; None where a map is the same everywhere."""
    ranks = [rankdata(values) for values in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def top_overlap(one: NDArray[np.int64], other: NDArray[np.int64], *, share: float = TOP_SHARE) -> float:
    """Share of the first ceil(share N) patches of one order that are among the first of the other.

    Two orders by chance have about ``share``.
    """
    count = int(np.ceil(share * len(one) - 1e-9))
    return len(np.intersect1d(one[:count], other[:count])) / count
