"""Layers of convolutions over occupied cells, in passes that may be computed twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout

from dtcwsi.nn.grafting import grafted
from dtcwsi.nn.row_norm import RowNorm
from dtcwsi.nn.sparse import Level, Levels, convolved
from dtcwsi.nn.squares import convolved_whole, is_full

__all__ = ["FirstLayer", "PlaceLayers"]


@dataclass(frozen=True)
class FirstLayer:
    """What the first layer makes, the same in all inner steps: before ReLU, behind normalisation, and its moments."""

    made: Float[Tensor, "places width"]
    rows: Float[Tensor, "places width"]
    seen: Float[Tensor, "2 width"]


class PlaceLayers(nn.Module):
    """Convolutions of 3 x 3, each followed by ReLU, batch normalisation and dropout, of ``rate``, of a bag's channels.

    The first has stride 1. Nothing here has effects on the module but `remember`, so that checkpointing may repeat it.
    """

    def __init__(self, width: int, strides: Sequence[int], rate: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, stride, padding=1) for stride in strides)
        self.norms = nn.ModuleList(RowNorm(width) for _ in strides)
        self.rate = rate

    @property
    def running(self) -> Float[Tensor, "layers 2 width"]:
        """Copy the running statistics."""
        return torch.stack([cast(RowNorm, norm).running for norm in self.norms])

    def remember(self, seen: Sequence[Float[Tensor, "2 width"]]) -> None:
        """Let the running statistics follow those of a pass."""
        for norm, moments in zip(self.norms, seen, strict=True):
            cast(RowNorm, norm).remember(moments)

    def forward(self, rows: Float[Tensor, "cells width"], levels: Levels) -> Float[Tensor, "places width"]:
        """Make the rows of the final places; in evaluation without gradient a layer keeps nothing but these."""
        running = self.running
        if torch.is_grad_enabled() or self.training:
            return self.further(self.first(rows, levels, running).rows, levels, running)[0]
        for number, norm in enumerate(self.norms):
            rows = self._convolved(number, rows, levels, partial(_followed, cast(RowNorm, norm), running[number]))
        return rows

    def first(
        self, rows: Float[Tensor, "cells width"], levels: Levels, running: Float[Tensor, "layers 2 width"]
    ) -> FirstLayer:
        """Apply the first layer but for its dropout."""
        made = self._convolved(0, rows, levels)
        return FirstLayer(made, *self.norms[0](made.relu(), running[0]))

    def grafted(
        self,
        first: FirstLayer,
        anew: Float[Tensor, "few width"],
        cells: Int[Tensor, "few"],
        levels: Levels,
        running: Float[Tensor, "layers 2 width"],
    ) -> Float[Tensor, "places width"]:
        """Give what the first layer has made slopes to the latents of a few cells."""
        follow = partial(_followed, cast(RowNorm, self.norms[0]), running[0])
        weight = self.convolutions[0].get_parameter("weight")
        return grafted(first.rows, anew, cells, first.made, follow, levels.steps[0].neighbours, weight)

    def further(
        self, rows: Float[Tensor, "cells width"], levels: Levels, running: Float[Tensor, "layers 2 width"]
    ) -> tuple[Float[Tensor, "places width"], Float[Tensor, "further 2 width"]]:
        """Apply the first layer's dropout and all further layers; also their moments to remember."""
        moments = []
        for number in range(1, len(self.norms)):
            made = self._convolved(number, self._dropped(rows, levels.steps[number - 1]), levels)
            rows, seen = self.norms[number](made.relu(), running[number])
            moments.append(seen)
        return self._dropped(rows, levels.steps[-1]), torch.stack(moments)

    def _convolved(
        self,
        number: int,
        rows: Float[Tensor, "rows width"],
        levels: Levels,
        follow: Callable[[Tensor], Tensor] = lambda made: made,
    ) -> Float[Tensor, "places width"]:
        """Apply a layer's convolution, and what is to ``follow`` it row by row."""
        level, layer = levels.steps[number], self.convolutions[number]
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        if not torch.is_grad_enabled() and is_full(level):
            return convolved_whole(rows, level, weight, bias, follow)
        return follow(convolved(rows, level.neighbours, weight, bias))

    def _dropped(self, rows: Float[Tensor, "places width"], level: Level) -> Float[Tensor, "places width"]:
        if not self.training or not self.rate:
            return rows
        return rows * dropout(rows.new_ones(len(level.offsets) - 1, rows.shape[1]), self.rate)[level.bag]


def _followed(norm: RowNorm, running: Float[Tensor, "2 width"], made: Tensor) -> Tensor:
    """What follows a convolution: ReLU, in place without gradient, and normalisation."""
    rows: Tensor = norm(made.relu() if torch.is_grad_enabled() else made.relu_(), running)[0]
    return rows
