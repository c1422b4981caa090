"""Which tokens could merge, and how willingly: Section 2.4.1."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.compressors.importance import rounded, rows_of_chunk, wide_dtype
from dtcwsi.nn.segment import offsets_of, segment_ids

__all__ = ["MATCHINGS", "Pairs", "aligned", "merge_utility"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of tokens that share none: rows ``left`` and ``right`` (pairs,), bag after bag by ``offsets``."""

    left: Int[Tensor, "pairs"]
    right: Int[Tensor, "pairs"]
    offsets: Int[Tensor, "bags_plus_one"]


def aligned(offsets: Int[Tensor, "bags_plus_one"]) -> Pairs:
    """Pair the tokens 1 and 2, 3 and 4, ... of each bag in their order; an odd last one stays single.

    Source: Algorithm 1, step 2.
    """
    ids = segment_ids(offsets)
    place = torch.arange(len(ids), device=offsets.device) - offsets[ids]
    left = torch.nonzero((place % 2 == 0) & (place + 1 < offsets.diff()[ids])).squeeze(1)
    return Pairs(left, left + 1, offsets_of(offsets.diff() // 2))


MATCHINGS: dict[str, Callable[[Int[Tensor, "bags_plus_one"]], Pairs]] = {"aligned": aligned}


@torch.no_grad()
def merge_utility(
    features: Float[Tensor, "rows dim"],
    left_rows: Int[Tensor, "pairs"],
    right_rows: Int[Tensor, "pairs"],
    score_gap: Float[Tensor, "pairs"],
    lam: float,
) -> Float[Tensor, "pairs"]:
    """Weigh likeness against disagreement: lam cos(h_i, h_j) - (1 - lam) gap.

    ``score_gap`` is |sigmoid(s_i) - sigmoid(s_j)|, not the printed difference of softmax weights, which vanishes for
    large bags. A zero vector is like nothing. Returns: (pairs,) float64, rounded as scores are.
    """
    likeness = [
        _cosine(features.index_select(0, left), features.index_select(0, right))
        for left, right in _chunks(features, left_rows, right_rows)
    ]
    cosines = torch.cat(likeness) if likeness else score_gap.new_zeros(0)
    return rounded(lam * cosines - (1 - lam) * score_gap)


def _chunks(
    features: Float[Tensor, "rows dim"], left: Int[Tensor, "pairs"], right: Int[Tensor, "pairs"]
) -> list[tuple[Tensor, Tensor]]:
    both = torch.stack([left, right], dim=1)
    return [(chunk[:, 0], chunk[:, 1]) for chunk in rows_of_chunk(both, row_numbers=features.shape[1])]


def _cosine(one: Float[Tensor, "pairs dim"], other: Float[Tensor, "pairs dim"]) -> Float[Tensor, "pairs"]:
    """Cosine of each pair: products in float32, which no batch changes, and wide sums, which float error does not."""
    wide, product = wide_dtype(one), torch.promote_types(one.dtype, torch.float32)
    one, other = one.to(product), other.to(product)
    length: Tensor = torch.linalg.vector_norm(one, dim=1, dtype=wide)
    length = length * torch.linalg.vector_norm(other, dim=1, dtype=wide)
    return (one * other).sum(dim=1, dtype=wide) / length.clamp_min(1e-30)
