"""How many tokens each stage merges, prunes and leaves: whole numbers, known before any token is ranked."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import OptionError
from dtcwsi.options import check_number, check_whole_number

__all__ = ["Step", "budget_of", "cumulative_shares", "merging_shares", "plan", "token_counts"]

DEFAULT_RETENTION = 0.4
DEFAULT_STAGES = 3
_MOST_STAGES = 2048  # 1,075 halve one to nothing


@dataclass(frozen=True)
class Step:
    """One stage, a number a bag: tokens ``before``, candidate ``edges``, edges that merge, tokens ``left``."""

    before: NDArray[np.int64]
    edges: NDArray[np.int64]
    merges: NDArray[np.int64]
    left: NDArray[np.int64]

    @property
    def pruned(self) -> NDArray[np.int64]:
        """Tokens that are dropped."""
        return self.before - self.merges - self.left


def budget_of(retention: Any, schedule: Any, stages: Any) -> dict[str, Any]:
    """Decide the budget's options that were not given: 0.4 in 3 stages unless there is a schedule."""
    if schedule is not None:
        return {"retention": retention, "schedule": schedule, "stages": stages}
    retention = DEFAULT_RETENTION if retention is None else retention
    return {"retention": retention, "schedule": None, "stages": DEFAULT_STAGES if stages is None else stages}


def cumulative_shares(retention: object, schedule: object, stages: object) -> tuple[float, ...]:
    """Work out the share of patches left after each stage.

    ``retention`` is the final share, split evenly over ``stages``; ``schedule`` is the share that each stage keeps of
    what reaches it. Without either: 0.4 in 3 stages.
    Raises: OptionError if both are given, or a number is out of range.
    """
    if schedule is not None:
        if retention is not None:
            raise OptionError(f"got retention={retention} and schedule={schedule}; give one of them")
        if not isinstance(schedule, list | tuple) or not schedule:
            raise OptionError(
                f"got schedule={schedule!r}; expected a list, one share a stage, such as [0.74, 0.74, 0.74]"
            )
        shares = [_share(f"schedule[{stage}]", share) for stage, share in enumerate(schedule)]
        if stages is not None and stages != len(shares):
            raise OptionError(f"got stages={stages} and a schedule of {len(shares)} shares; leave stages out")
        return tuple(math.prod(shares[: stage + 1]) for stage in range(len(shares)))
    given = budget_of(retention, None, stages)
    last, count = (
        _share("retention", given["retention"]),
        check_whole_number("stages", given["stages"], most=_MOST_STAGES),
    )
    return tuple(last ** ((stage + 1) / count) for stage in range(count))


def merging_shares(retention: object, schedule: object, stages: object) -> tuple[float, ...]:
    """Work out the shares as `cumulative_shares` does, where merging has to do all of it.

    One stage can at most halve a list, so a ``retention`` gets at least ceil(log2(1 / retention)) stages.
    Raises: OptionError if a stage of ``schedule`` keeps less than half.
    """
    if schedule is not None:
        shares = cumulative_shares(retention, schedule, stages)
        if any(after < 0.5 * before for before, after in pairwise((1.0, *shares))):
            raise OptionError(f"got schedule={schedule}; a stage that only merges keeps at least 0.5; use more stages")
        return shares
    last = cumulative_shares(retention, None, 1)[0]
    least = math.ceil(math.log2(1 / last) - 1e-9)
    return cumulative_shares(last, None, max(1, least, len(cumulative_shares(last, None, stages))))


def token_counts(
    sizes: NDArray[np.int64], share: float | NDArray[np.float64], tightness: float = 1.0
) -> NDArray[np.int64]:
    """Count the tokens left of each bag: max(1, ceil(N share^tightness - 1e-6)), none of an empty bag.

    ``tightness`` is 0 (keep all) to 1 (the full budget).
    """
    left = np.ceil(sizes * np.power(share, tightness) - 1e-6).astype(np.int64)
    return np.asarray(np.minimum(np.maximum(left, 1), sizes))


def plan(
    sizes: NDArray[np.int64],
    budgets: Sequence[NDArray[np.int64]],
    *,
    edges_of: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    merge_share: float,
    merge_all: bool = False,
    prunes: bool = True,
) -> Iterator[Step]:
    """Split each stage's reduction into merging and pruning.

    ``budgets`` are the tokens allowed after each stage; ``edges_of`` counts the candidate merges of that many tokens.
    Merges are the ``merge_share`` of the reduction, halves rounded up, at most all edges, or with ``merge_all`` all
    edges; pruning does the rest if there is ``prunes``.
    """
    before = sizes
    for budget in budgets:
        edges = edges_of(before)
        wanted = np.maximum(0, before - budget)
        merges = np.minimum(np.floor(wanted * merge_share + 0.5).astype(np.int64), edges)
        merges = edges if merge_all else merges
        left = np.minimum(budget, before - merges) if prunes else before - merges
        yield Step(before, edges, merges, left)
        before = left


def _share(name: str, value: object) -> float:
    return check_number(name, value, lambda share: 0 < share <= 1, "a number above 0 and at most 1")
