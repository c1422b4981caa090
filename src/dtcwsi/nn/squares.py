"""Convolutions of 3 x 3 over whole grids, for bags that fill most of theirs: quicker there than place by place."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv2d

from dtcwsi.nn.segment import segment_min
from dtcwsi.nn.sparse import Level

__all__ = ["convolved_whole", "is_full"]

_FULL = 0.7


def is_full(level: Level) -> bool:
    """Tell whether the places seen fill most of the rectangles around them, each bag's from its column and row 0."""
    farthest = segment_min(-level.seen_xy.double(), level.seen_offsets).neg().clamp_min(-1)
    return len(level.seen_xy) > _FULL * float((farthest + 1).prod(dim=1).sum())


def convolved_whole(
    rows: Float[Tensor, "rows width"],
    level: Level,
    weight: Float[Tensor, "out width 3 3"],
    bias: Float[Tensor, "out"],
) -> Float[Tensor, "places out"]:
    """Convolve each bag's whole grid, zeros where nothing is, and take what its places have.

    The same as `dtcwsi.nn.sparse.convolved` but for rounding.
    """
    made = []
    for first, last, start, end in zip(*_bounds(level), strict=True):
        if first < last:
            whole = _of_bag(rows[first:last], level.seen_xy[first:last], level.stride, weight, bias)
            made.append(_taken(whole, level.xy[start:end]))
    return made[0] if len(made) == 1 else torch.cat([rows.new_zeros(0, len(weight)), *made])


def _of_bag(
    rows: Float[Tensor, "rows width"], xy: Int[Tensor, "rows 2"], stride: int, weight: Tensor, bias: Tensor
) -> Float[Tensor, "lines columns out"]:
    columns, lines = (xy.amax(dim=0) + 1).tolist()
    if len(rows) < lines * columns:
        place = xy[:, 1] * columns + xy[:, 0]
        rows = rows.new_zeros(lines * columns, rows.shape[1]).index_copy_(0, place, rows)
    image = rows.view(1, lines, columns, -1).permute(0, 3, 1, 2)
    return conv2d(image, weight, bias, stride=stride, padding=1)[0].permute(1, 2, 0)


def _taken(whole: Float[Tensor, "lines columns out"], xy: Int[Tensor, "places 2"]) -> Float[Tensor, "places out"]:
    """Take the rows of some places, which go row by row; if these are all, nothing is copied."""
    if len(xy) == whole.shape[0] * whole.shape[1]:
        return whole.flatten(0, 1)
    return whole[xy[:, 1], xy[:, 0]]


def _bounds(level: Level) -> list[list[int]]:
    """List where bags begin and end, among the places seen and those made."""
    seen, made = level.seen_offsets.tolist(), level.offsets.tolist()
    return [seen[:-1], seen[1:], made[:-1], made[1:]]
