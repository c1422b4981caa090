"""Operations on ragged segments: the rows ``offsets[b]`` to ``offsets[b + 1]`` of a matrix belong to segment b."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Segments",
    "offsets_of",
    "segment_argmax",
    "segment_ids",
    "segment_log_softmax",
    "segment_mean",
    "segment_min",
    "segment_order",
    "segment_pool",
    "segment_shares",
    "segment_softmax",
    "segment_sum",
    "to_rows",
    "top_rows",
]


@dataclass(frozen=True)
class Segments:
    """Ragged rows whose number is known without a look at the device.

    ``offsets`` (segments + 1,) first rows; ``ids`` (rows,) the segment of each row.
    """

    offsets: Int[Tensor, "segments_plus_one"]
    ids: Int[Tensor, "rows"]

    @classmethod
    def of(cls, sizes: NDArray[np.int64], device: torch.device) -> "Segments":
        """Lay out segments of the sizes given."""
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])).to(device)
        numbers = torch.arange(len(sizes), device=device)
        if len(sizes) == 1:
            return cls(offsets, numbers.expand(int(sizes[0])))
        return cls(offsets, numbers.repeat_interleave(offsets.diff(), output_size=int(sizes.sum())))

    @property
    def places(self) -> Int[Tensor, "rows"]:
        """Count the rows of each segment from 0."""
        return torch.arange(self.ids.shape[0], device=self.ids.device) - self.firsts(self.ids)

    def firsts(self, ids: Int[Tensor, "any"]) -> Int[Tensor, "any"]:
        """Name the first row of each segment in a list; if there is but one, it is row 0."""
        return ids if len(self.offsets) == 2 else self.offsets.index_select(0, ids)


def offsets_of(sizes: Int[Tensor, "segments"]) -> Int[Tensor, "segments_plus_one"]:
    """Turn segment sizes into offsets, the first of which is 0."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def segment_ids(offsets: Int[Tensor, "segments_plus_one"], rows: int | None = None) -> Int[Tensor, "rows"]:
    """Name the segment of each row; ``rows`` is how many there are, if it is known without a look at ``offsets``."""
    count = int(offsets[-1]) if rows is None else rows
    if len(offsets) == 2:
        return torch.zeros(count, dtype=torch.int64, device=offsets.device)
    return torch.searchsorted(offsets[1:].contiguous(), torch.arange(count, device=offsets.device), right=True)


def to_rows(
    values: Float[Tensor, "segments *dims"], offsets: Int[Tensor, "segments_plus_one"], rows: int
) -> Float[Tensor, "rows_or_1 *dims"]:
    """Repeat each segment's value for its rows; that of a single segment is left to broadcasting."""
    return values if len(offsets) == 2 else values.index_select(0, segment_ids(offsets, rows))


def segment_sum(
    values: Float[Tensor, "rows *dims"], offsets: Int[Tensor, "segments_plus_one"]
) -> Float[Tensor, "segments *dims"]:
    """Sum the rows of each segment; an empty segment gives 0."""
    if len(offsets) == 2:
        return values.sum(dim=0, keepdim=True)
    zeros = values.new_zeros(len(offsets) - 1, *values.shape[1:])
    return zeros.index_add(0, segment_ids(offsets, values.shape[0]), values)


def segment_mean(
    values: Float[Tensor, "rows *dims"], offsets: Int[Tensor, "segments_plus_one"]
) -> Float[Tensor, "segments *dims"]:
    """Average the rows of each segment; an empty segment gives 0."""
    sizes = offsets.diff().clamp_min(1).reshape(-1, *[1] * (values.ndim - 1))
    return segment_sum(values, offsets) / sizes


def segment_min(
    values: Float[Tensor, "rows *dims"], offsets: Int[Tensor, "segments_plus_one"]
) -> Float[Tensor, "segments *dims"]:
    """Find the smallest value of each segment; an empty segment gives infinity."""
    if len(offsets) == 2 and values.shape[0]:
        return values.amin(dim=0, keepdim=True)
    start = values.new_full((len(offsets) - 1, *values.shape[1:]), float("inf"))
    ids = segment_ids(offsets, values.shape[0]).reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    return start.scatter_reduce(0, ids, values, "amin")


def segment_argmax(
    values: Float[Tensor, "rows columns"], offsets: Int[Tensor, "segments_plus_one"]
) -> Int[Tensor, "segments columns"]:
    """Name the row of the largest value of each segment, the first of equals; of an empty segment any row."""
    if len(offsets) == 2:
        return values.argmax(dim=0, keepdim=True)
    ids = segment_ids(offsets, values.shape[0])
    best = values >= -segment_min(-values, offsets)[ids]
    rows = torch.arange(values.shape[0], device=values.device)[:, None].expand_as(values)
    last = (offsets[1:] - 1).clamp_min(0)[:, None].repeat(1, values.shape[1])
    return last.scatter_reduce(0, ids[:, None].expand_as(values), torch.where(best, rows, values.shape[0]), "amin")


def segment_order(values: Float[Tensor, "rows"] | Int[Tensor, "rows"], ids: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """List the rows segment by segment, each segment's from the largest value on; equal ones as they come."""
    order = torch.sort(values, descending=True, stable=True).indices
    return order[torch.sort(ids[order], stable=True).indices]


def segment_shares(
    values: Float[Tensor, "rows *maps"],
    offsets: Int[Tensor, "segments_plus_one"],
    instead: Float[Tensor, "rows *maps"] | None = None,
) -> Float[Tensor, "rows *maps"]:
    """Divide values by the sum of their segment; where it is 0 they stay 0, or are what is given ``instead``."""
    total = to_rows(segment_sum(values, offsets), offsets, values.shape[0])
    shares = values / total.clamp_min(1e-30)
    return shares if instead is None else torch.where(total > 0, shares, instead.to(shares.dtype))


def segment_pool(
    rows: Float[Tensor, "rows dim"], weights: Float[Tensor, "rows maps"], offsets: Int[Tensor, "segments_plus_one"]
) -> Float[Tensor, "segments maps dim"]:
    """Add up the rows of each segment, weighted, once a column of weights; one segment needs no weighted copy.

    Returns: of the type of rows, added up in that of the weights where it is the wider one.
    """
    if len(offsets) == 2:
        wide = torch.promote_types(weights.dtype, rows.dtype)
        return (weights.to(wide).T @ rows.to(wide)).to(rows.dtype)[None]
    pooled = torch.stack([segment_sum(column[:, None] * rows, offsets) for column in weights.unbind(1)], dim=1)
    return pooled.to(rows.dtype)


def segment_softmax(
    logits: Float[Tensor, "rows *maps"],
    offsets: Int[Tensor, "segments_plus_one"],
    bias: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, "rows *maps"]:
    """Normalise logits within each segment, each column by itself.

    ``bias`` is added first: with the log of a token's size, a token of n patches weighs as much as n tokens would.
    Returns: of the shape of logits, positive, summing to 1 in each segment that has rows.
    """
    biased = logits if bias is None else logits + bias.reshape(-1, *[1] * (logits.ndim - 1))
    rows = logits.shape[0]
    peak = -segment_min(-biased.detach(), offsets)
    weights = torch.exp(biased - to_rows(peak, offsets, rows))
    return weights / to_rows(segment_sum(weights, offsets), offsets, rows)


def segment_log_softmax(logits: Float[Tensor, "rows"], segments: Segments) -> Float[Tensor, "rows"]:
    """Normalise logits within each segment, as logarithms, which do not underflow."""
    peak = -segment_min(-logits.detach(), segments.offsets)
    shifted = logits - peak.index_select(0, segments.ids)
    totals = shifted.new_zeros(len(peak)).index_add(0, segments.ids, shifted.exp())
    return shifted - totals.log().index_select(0, segments.ids)


def top_rows(key: Int[Tensor, "rows"], segments: Segments, chosen: Segments) -> Int[Tensor, "chosen"]:
    """Find the rows of each segment with the largest keys, as many as ``chosen`` has places.

    ``key`` must differ from row to row within a segment. Returns: (chosen,) row numbers, ascending.
    """
    if len(segments.offsets) == 2:
        best = torch.topk(key, len(chosen.ids), sorted=False).indices
    else:
        order = segment_order(key, segments.ids)
        shift = (segments.offsets - chosen.offsets)[chosen.ids]
        best = order[torch.arange(len(shift), device=key.device) + shift]
    marked = torch.zeros(len(key), dtype=torch.bool, device=key.device).index_fill(0, best, True)
    return torch.nonzero_static(marked, size=len(best)).squeeze(1)
