"""Operations on ragged segments: the rows ``offsets[b]`` to ``offsets[b + 1]`` of a matrix belong to segment b."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

__all__ = [
    "offsets_of",
    "rank_in_segment",
    "segment_ids",
    "segment_mean",
    "segment_min",
    "segment_softmax",
    "segment_sum",
    "top_of_segment",
]


def offsets_of(sizes: Int[Tensor, "segments"]) -> Int[Tensor, "segments_plus_one"]:
    """Turn segment sizes into offsets, the first of which is 0."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def segment_ids(offsets: Int[Tensor, "segments_plus_one"]) -> Int[Tensor, "rows"]:
    """Name the segment of each row."""
    rows = torch.arange(int(offsets[-1]), device=offsets.device)
    return torch.searchsorted(offsets[1:].contiguous(), rows, right=True)


def segment_sum(
    values: Float[Tensor, "rows *dims"], offsets: Int[Tensor, "segments_plus_one"]
) -> Float[Tensor, "segments *dims"]:
    """Sum the rows of each segment; an empty segment gives 0."""
    zeros = values.new_zeros(len(offsets) - 1, *values.shape[1:])
    return zeros.index_add(0, segment_ids(offsets), values)


def segment_mean(
    values: Float[Tensor, "rows *dims"], offsets: Int[Tensor, "segments_plus_one"]
) -> Float[Tensor, "segments *dims"]:
    """Average the rows of each segment; an empty segment gives 0."""
    sizes = offsets.diff().clamp_min(1).reshape(-1, *[1] * (values.ndim - 1))
    return segment_sum(values, offsets) / sizes


def segment_min(values: Float[Tensor, "rows"], offsets: Int[Tensor, "segments_plus_one"]) -> Float[Tensor, "segments"]:
    """Find the smallest value of each segment; an empty segment gives infinity."""
    start = values.new_full((len(offsets) - 1,), float("inf"))
    return start.scatter_reduce(0, segment_ids(offsets), values, "amin")


def segment_softmax(
    logits: Float[Tensor, "rows"],
    offsets: Int[Tensor, "segments_plus_one"],
    bias: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, "rows"]:
    """Normalise logits within each segment.

    ``bias`` is added first: with the log of a token's size, a token of n patches weighs as much as n tokens would.
    Returns: (rows,) positive, summing to 1 in each segment that has rows.
    """
    biased = logits if bias is None else logits + bias
    ids = segment_ids(offsets)
    peak = -segment_min(-biased.detach(), offsets)
    weights = torch.exp(biased - peak[ids])
    return weights / segment_sum(weights, offsets)[ids]


def rank_in_segment(
    keys: Sequence[Num[Tensor, "rows"]], offsets: Int[Tensor, "segments_plus_one"]
) -> Int[Tensor, "rows"]:
    """Rank rows within their segment, largest first; ties pass to the next key, at last to the lower row.

    ``keys`` the most significant first. Returns: (rows,) 0 for the first of its segment.
    """
    ids = segment_ids(offsets)
    order = torch.arange(len(ids), device=ids.device)
    for key in reversed(keys):
        order = order[torch.argsort(key[order], descending=True, stable=True)]
    order = order[torch.argsort(ids[order], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(ids), device=ids.device) - offsets[ids]
    return rank


def top_of_segment(
    keys: Sequence[Num[Tensor, "rows"]], offsets: Int[Tensor, "segments_plus_one"], count: Int[Tensor, "segments"]
) -> Bool[Tensor, "rows"]:
    """Mark the ``count[b]`` rows of each segment b with the largest keys; ties as in `rank_in_segment`."""
    return rank_in_segment(keys, offsets) < count[segment_ids(offsets)]
