"""Convolutions of 3 x 3 over whole grids, for bags that fill most of theirs: quicker there than place by place."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv2d

from dtcwsi.nn.chunks import chunks
from dtcwsi.nn.segment import segment_min
from dtcwsi.nn.sparse import Level

__all__ = ["convolved_whole", "is_full"]

_FULL = 0.7
_LEAST_LINES = 8


def is_full(level: Level) -> bool:
    """Tell whether the places seen fill most of the rectangles around them, each bag's from its column and row 0."""
    farthest = segment_min(-level.seen_xy.double(), level.seen_offsets).neg().clamp_min(-1)
    return len(level.seen_xy) > _FULL * float((farthest + 1).prod(dim=1).sum())


def convolved_whole(
    rows: Float[Tensor, "rows width"],
    level: Level,
    weight: Float[Tensor, "out width 3 3"],
    bias: Float[Tensor, "out"],
    follow: Callable[[Tensor], Tensor],
) -> Float[Tensor, "places out"]:
    """Convolve each bag's whole grid, zeros where nothing is, take the rows of its places, and let ``follow`` map them.

    Convolution is that of `dtcwsi.nn.sparse.convolved` but for rounding. A band of a grid's lines is made at a time, so
    that memory holds little more than the rows given and those made.
    """
    made, place = weight.new_empty(len(level.xy), len(weight)), 0
    for first, last, start, end in zip(*_bounds(level), strict=True):
        seen, xy = level.seen_xy[first:last], level.xy[start:end]
        for band in _bands(rows[first:last], seen, xy, level.stride, weight, bias) if first < last else ():
            made[place : place + len(band)] = follow(band)
            place += len(band)
    return made


def _bands(
    rows: Float[Tensor, "rows width"],
    seen: Int[Tensor, "rows 2"],
    xy: Int[Tensor, "places 2"],
    stride: int,
    weight: Tensor,
    bias: Tensor,
) -> Iterator[Float[Tensor, "some out"]]:
    """Make a bag's places, some lines of them at a time; a band has a rim of two lines, a grid of one band has none."""
    columns, lines = int(seen[:, 0].amax()) + 1, int(xy[-1, 1]) + 1
    height = max(_LEAST_LINES, next(chunks(lines, stride * columns * rows.shape[1], rows.device)).stop)
    rim = int(lines > height)
    for start in range(0, lines, height):
        stop = min(lines, start + height)
        top, end = (stride * start - 1, stride * (stop - 1) + 2) if rim else (0, int(seen[-1, 1]) + 1)
        within, there = _lines(seen, top, end), _lines(xy, start, stop)
        image = _image(rows[within], seen[within], top, end - top, columns)
        whole = conv2d(image, weight, bias, stride=stride, padding=(1 - rim, 1))[0].permute(1, 2, 0)
        yield whole[xy[there, 1] - start, xy[there, 0]]


def _lines(xy: Int[Tensor, "rows 2"], first: int, end: int) -> slice:
    """Find the rows of some lines, ``end`` not among them, of rows that go line by line."""
    start, stop = torch.searchsorted(xy[:, 1].contiguous(), torch.tensor([first, end], device=xy.device)).tolist()
    return slice(start, stop)


def _image(
    rows: Float[Tensor, "rows width"], xy: Int[Tensor, "rows 2"], top: int, lines: int, columns: int
) -> Float[Tensor, "1 width lines columns"]:
    """Lay rows out in a rectangle of lines from ``top`` on, zeros where nothing is."""
    if len(rows) < lines * columns:
        place = (xy[:, 1] - top) * columns + xy[:, 0]
        rows = rows.new_zeros(lines * columns, rows.shape[1]).index_copy_(0, place, rows)
    return rows.view(1, lines, columns, -1).permute(0, 3, 1, 2)


def _bounds(level: Level) -> list[list[int]]:
    """List where bags begin and end, among the places seen and those made."""
    seen, made = level.seen_offsets.tolist(), level.offsets.tolist()
    return [seen[:-1], seen[1:], made[:-1], made[1:]]
