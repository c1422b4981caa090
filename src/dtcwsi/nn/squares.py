"""Convolutions of 3 x 3 over whole grids, for bags that fill most of theirs: quicker there than place by place."""

import torch
from jaxtyping import Float
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
    made = [rows.new_zeros(0, len(weight))]
    for first, last, start, end in zip(*_bounds(level), strict=True):
        if first == last:
            continue
        xy = level.seen_xy[first:last]
        columns, lines = (xy.amax(dim=0) + 1).tolist()
        grid = rows.new_zeros(lines * columns, rows.shape[1])
        grid[xy[:, 1] * columns + xy[:, 0]] = rows[first:last]
        image = grid.view(1, lines, columns, -1).permute(0, 3, 1, 2)
        whole = conv2d(image, weight, bias, stride=level.stride, padding=1)[0]
        places = level.xy[start:end]
        made.append(whole.permute(1, 2, 0)[places[:, 1], places[:, 0]])
    return torch.cat(made)


def _bounds(level: Level) -> list[list[int]]:
    """List where bags begin and end, among the places seen and those made."""
    seen, made = level.seen_offsets.tolist(), level.offsets.tolist()
    return [seen[:-1], seen[1:], made[:-1], made[1:]]
