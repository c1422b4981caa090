"""How many tokens are left after each stage."""

import math

import torch
from jaxtyping import Int
from torch import Tensor

from dtcwsi.errors import OptionError

__all__ = ["DEFAULT_RETENTION", "DEFAULT_STAGES", "cumulative_shares", "merges", "token_counts"]

DEFAULT_RETENTION = 0.4
DEFAULT_STAGES = 3


def cumulative_shares(retention: object, schedule: object, stages: object) -> tuple[float, ...]:
    """Work out the share of patches left after each stage.

    ``retention`` is the final share, split evenly over ``stages``; ``schedule`` is the share that each stage keeps of
    what reaches it. Without either: 0.4 in 3 stages.
    Raises: OptionError if both are given, or a number is out of range.
    """
    if schedule is not None:
        if retention is not None:
            raise OptionError(f"got retention={retention} and schedule={schedule}; give one of them")
        shares = _shares(schedule)
        if stages is not None and stages != len(shares):
            raise OptionError(f"got stages={stages} and a schedule of {len(shares)}; leave stages out")
        return tuple(math.prod(shares[: stage + 1]) for stage in range(len(shares)))
    last = _share("retention", DEFAULT_RETENTION if retention is None else retention)
    count = DEFAULT_STAGES if stages is None else stages
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise OptionError(f"got stages={count!r}; expected a whole number from 1 on")
    return tuple(last ** ((stage + 1) / count) for stage in range(count))


def token_counts(sizes: Int[Tensor, "bags"], share: float, tightness: float) -> Int[Tensor, "bags"]:
    """Count the tokens left of each bag: max(1, ceil(N share^tightness - 1e-6)), none of an empty bag.

    ``tightness`` is 0 (keep all) to 1 (the full budget).
    """
    left = torch.ceil(sizes.double() * share**tightness - 1e-6).long().clamp_min(1)
    return torch.minimum(left, sizes)


def merges(removed: Int[Tensor, "bags"], pairs: Int[Tensor, "bags"], merge_share: float) -> Int[Tensor, "bags"]:
    """Count the pairs to merge of the tokens to remove: their ``merge_share``, halves rounded up, at most all pairs."""
    return torch.minimum(torch.floor(removed.double() * merge_share + 0.5).long(), pairs)


def _shares(schedule: object) -> list[float]:
    if not isinstance(schedule, list | tuple) or not schedule:
        raise OptionError(f"got schedule={schedule!r}; expected one share a stage, such as (0.74, 0.74, 0.74)")
    return [_share("schedule", share) for share in schedule]


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise OptionError(f"got {name}={value!r}; expected a share above 0 and at most 1")
    return float(value)
