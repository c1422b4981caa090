"""Mamba's block over a grid of cells (Gu and Dao 2023; Zhang et al. 2025)."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus
from torch.utils.checkpoint import checkpoint

from dtcwsi.nn.linear import Linear, linear
from dtcwsi.nn.scan import scan_grid

__all__ = ["Mamba2dBlock"]

_GROUP_NUMBERS, _ROW_NUMBERS = 1 << 22, 1 << 20


class Mamba2dBlock(nn.Module):
    """Add to every cell what a selective scan of the grid tells it: rows + mixer(RMSNorm(rows)).

    The mixer doubles the width, convolves causally along the flattened grid (a row's first cells see the end of the row
    above), scans the grid and gates the outcome. Channels are taken a group at a time and made again in the backward
    pass, so that nothing as wide as all channels or as their states is held: a few numbers of the width a cell.
    """

    def __init__(self, width: int, *, states: int = 16, expand: int = 2, kernel: int = 4) -> None:
        super().__init__()
        self.inner, self.rank, self.states = expand * width, math.ceil(width / 16), states
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.project_in = Linear(width, 2 * self.inner, bias=False)
        self.convolution = nn.Conv1d(self.inner, self.inner, kernel, groups=self.inner)
        self.select = Linear(self.inner, self.rank + 2 * states, bias=False)
        self.steps = Linear(self.rank, self.inner)
        self.log_rates = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(self.inner, 1))
        self.skip = nn.Parameter(torch.ones(self.inner))
        self.project_out = Linear(self.inner, width, bias=False)

    def forward(
        self, rows: Float[Tensor, "cells width"], reach: Float[Tensor, "cells"], columns: int
    ) -> Float[Tensor, "cells width"]:
        """Mix the cells of one grid, given row by row; ``reach`` scales what the mixer sees of each."""
        normed = self.norm(rows) * reach.to(rows.dtype)[:, None]
        groups = self._groups(len(rows), columns)
        chosen = rows.new_zeros(len(rows), self.select.out_features)
        for group in groups:
            chosen = chosen + _again(self._chosen, normed, group)
        for group in groups:
            rows = rows + _again(self._mixed, normed, chosen, group, columns)
        return rows

    def _groups(self, cells: int, columns: int) -> list[slice]:
        """Cut the channels so that a group's numbers, and a row of its states, stay small."""
        most = min(_GROUP_NUMBERS // max(1, cells), _ROW_NUMBERS // max(1, columns * self.states), 64)
        size = max(8, most // 8 * 8)
        return [slice(start, min(start + size, self.inner)) for start in range(0, self.inner, size)]

    def _convolved(self, normed: Tensor, group: slice) -> Float[Tensor, "cells group"]:
        projected = linear(normed, self.project_in.weight[group])
        weight, bias = self.convolution.get_parameter("weight")[group, 0], self.convolution.get_parameter("bias")[group]
        padded = pad(projected, (0, 0, weight.shape[1] - 1, 0))
        for place in range(weight.shape[1]):
            bias = bias + padded[place : place + len(normed)] * weight[:, place]
        return silu(bias)

    def _chosen(self, normed: Tensor, group: slice) -> Float[Tensor, "cells selected"]:
        """Say what one group of channels adds to step sizes, writes and reads."""
        return linear(self._convolved(normed, group), self.select.weight[:, group])

    def _mixed(self, normed: Tensor, chosen: Tensor, group: slice, columns: int) -> Float[Tensor, "cells width"]:
        """Say what one group of channels adds to the cells."""
        inputs = self._convolved(normed, group)
        low, (writes, reads) = chosen[:, : self.rank], chosen[:, self.rank :].chunk(2, dim=1)
        steps = softplus(linear(low, self.steps.weight[group], self.steps.bias[group]))
        grid = [part.view(-1, columns, part.shape[1]) for part in (inputs, steps, writes, reads)]
        read = scan_grid(grid[0], grid[1], -self.log_rates[group].exp().T, grid[2], grid[3]).flatten(0, 1)
        gate = linear(normed, self.project_in.weight[self.inner :][group])
        made = (read + self.skip[group] * inputs) * silu(gate)
        return linear(made.to(gate.dtype), self.project_out.weight[:, group])


def _again(part: Callable[..., Tensor], *given: object) -> Tensor:
    """Call and, if there will be a backward pass, keep nothing but what was given."""
    if not torch.is_grad_enabled():
        return part(*given)
    made: Tensor = checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False)
    return made
