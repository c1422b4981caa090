"""Convolutions of 3 x 3 over the occupied cells of grids: all others count as zeros and take neither time nor room."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dtcwsi.later import WhenRead, later, worked_out_when_read
from dtcwsi.nn.grid import occupied
from dtcwsi.nn.linear import linear
from dtcwsi.nn.segment import segment_ids

__all__ = ["Level", "Levels", "convolved", "gathered", "kernel_of", "levels_of", "neighbours_of"]

_CHUNK = 4096


@worked_out_when_read("neighbours")
@dataclass(frozen=True)
class Level:
    """Places that a convolution makes, bag after bag: ``offsets`` (bags + 1,) first ones, ``bag`` (places,) of each.

    ``xy`` (places, 2) their column and row, ``stride`` times which they are centred in among those ``seen_xy`` and
    ``seen_offsets`` before; ``neighbours`` (places, 9) are the rows that each is made of, see `neighbours_of`.
    """

    offsets: Int[Tensor, "bags_plus_one"]
    bag: Int[Tensor, "places"]
    neighbours: WhenRead[Int[Tensor, "places 9"]]
    xy: Int[Tensor, "places 2"]
    stride: int
    seen_xy: Int[Tensor, "rows 2"]
    seen_offsets: Int[Tensor, "bags_plus_one"]


@dataclass(frozen=True)
class Levels:
    """One convolution's places after another's; ``of_cell`` (cells,) is the last one's place that covers a cell."""

    steps: tuple[Level, ...]
    of_cell: Int[Tensor, "cells"]


def levels_of(xy: Int[Tensor, "cells 2"], offsets: Int[Tensor, "bags_plus_one"], strides: Sequence[int]) -> Levels:
    """Follow cells, which go bag after bag and row by row, through convolutions of 3 x 3 with a rim of 1.

    A place of stride 2 is kept if one of the 2 x 2 places in whose first it is centred is there.
    """
    bag, levels, seen = segment_ids(offsets, len(xy)), [], offsets
    of_cell = torch.arange(len(xy), device=xy.device)
    for stride in strides:
        made, first, of_row = occupied(xy // stride, bag, len(offsets) - 1)
        of_made = segment_ids(first, len(made))
        neighbours = later(partial(neighbours_of, made, of_made, xy, bag, stride))
        levels.append(Level(first, of_made, neighbours, made, stride, xy, seen))
        xy, bag, seen, of_cell = made, of_made, first, of_row[of_cell]
    return Levels(tuple(levels), of_cell)


def neighbours_of(
    made: Int[Tensor, "places 2"],
    made_bag: Int[Tensor, "places"],
    seen: Int[Tensor, "rows 2"],
    seen_bag: Int[Tensor, "rows"],
    stride: int,
) -> Int[Tensor, "places 9"]:
    """Name the rows that a convolution sees from each place: 3 x 3, row by row, around ``stride`` times its place.

    ``seen`` are sorted by bag, then row, then column. Where nothing is, the number is that of rows.
    """
    if not len(seen):
        return seen.new_zeros(len(made), 9)
    columns, lines = (int(side) + 3 for side in seen.amax(dim=0))
    rim = torch.arange(-1, 2, device=seen.device)
    x = (stride * made[:, 0, None, None] + rim).expand(-1, 3, 3)
    y = (stride * made[:, 1, None, None] + rim[:, None]).expand(-1, 3, 3)
    wanted = ((made_bag[:, None, None] * lines + y + 1) * columns + x + 1).flatten(1)
    there = (seen_bag * lines + seen[:, 1] + 1) * columns + seen[:, 0] + 1
    found = torch.searchsorted(there, wanted).clamp_max(len(there) - 1)
    return torch.where(there[found] == wanted, found, len(there))


def convolved(
    rows: Float[Tensor, "rows width"],
    neighbours: Int[Tensor, "places 9"],
    weight: Float[Tensor, "out width 3 3"],
    bias: Float[Tensor, "out"],
) -> Float[Tensor, "places out"]:
    """Convolve rows at places whose neighbours are known, as `torch.nn.functional.conv2d` does on the whole grid.

    A chunk of places is computed at a time and gathered again in the backward pass, for which nothing but the rows is
    kept. It has first derivatives only.
    """
    kind = rows.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        rows, weight, bias = rows.to(dtype), weight.to(dtype), bias.to(dtype)
    made: Tensor = _Convolved.apply(rows, neighbours, weight, bias)
    return made


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        kernel, made = kernel_of(weight), rows.new_empty(len(neighbours), len(weight))
        for part, seen in gathered(rows, neighbours):
            made[part] = linear(seen, kernel, bias)
        ctx.save_for_backward(rows, neighbours, weight)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        rows, neighbours, weight = ctx.saved_tensors
        of_rows, of_kernel, of_bias = (ctx.needs_input_grad[place] for place in (0, 2, 3))
        kernel = kernel_of(weight)
        wide = torch.promote_types(rows.dtype, torch.float32)  # sums over many places lose their ends in 16 bits
        rows_slope = torch.zeros(len(rows) + 1, rows.shape[1], dtype=wide, device=rows.device)
        kernel_slope = torch.zeros_like(kernel, dtype=wide)
        for part, seen in gathered(rows, neighbours):
            if of_kernel:
                kernel_slope.add_(slopes[part].T @ seen)
            if of_rows:
                back = linear(slopes[part], kernel.T)
                rows_slope.index_add_(0, neighbours[part].flatten(), back.view(-1, rows.shape[1]).to(wide))
        shaped = kernel_slope.view(len(weight), 3, 3, -1).permute(0, 3, 1, 2)
        return (
            rows_slope[:-1].to(rows.dtype) if of_rows else None,
            None,
            shaped.to(weight.dtype) if of_kernel else None,
            slopes.sum(dim=0) if of_bias else None,
        )


def kernel_of(weight: Float[Tensor, "out width 3 3"]) -> Float[Tensor, "out nine_widths"]:
    """Lay a kernel out as `gathered` rows are."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def gathered(
    rows: Float[Tensor, "rows width"], neighbours: Int[Tensor, "places 9"]
) -> Iterator[tuple[slice, Float[Tensor, "n nine_widths"]]]:
    """Lay the neighbours of some places side by side, zeros where nothing is."""
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    for first in range(0, len(neighbours), _CHUNK):
        part = slice(first, first + _CHUNK)
        yield part, padded.index_select(0, neighbours[part].flatten()).view(-1, 9 * rows.shape[1])
