"""A convolution over a whole grid, computed once, whose inputs learn a few at a time."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dtcwsi.nn.sparse import gathered, kernel_of

__all__ = ["grafted"]

Follow = Callable[[Tensor], Tensor]
"""What is made of a convolution's rows, all at once."""


def grafted(
    rows: Float[Tensor, "places out"],
    anew: Float[Tensor, "few width"],
    which: Int[Tensor, "few"],
    made: Float[Tensor, "places out"],
    follow: Follow,
    neighbours: Int[Tensor, "places 9"],
    weight: Float[Tensor, "out width 3 3"],
) -> Float[Tensor, "places out"]:
    """Return ``rows`` as if ``anew`` had taken part: the rows ``which`` of the grid they come from, values unchanged.

    ``rows`` = ``follow`` (``made``), and ``made`` is the convolution of stride 1 by ``weight`` of the whole grid, see
    `dtcwsi.nn.sparse.convolved`. Slopes go to ``rows``, and to ``anew`` what the convolution would have given them;
    this costs as much as there are new rows. It has first derivatives only.
    """
    joined: Tensor = _Grafted.apply(rows, anew, which, made.detach(), follow, neighbours, weight.detach())
    return joined


class _Grafted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        anew: Tensor,
        which: Tensor,
        made: Tensor,
        follow: Follow,
        neighbours: Tensor,
        weight: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(which, made, neighbours, weight)
        ctx.follow, ctx.dtype = follow, anew.dtype
        return rows.view_as(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        which, made, neighbours, weight = ctx.saved_tensors
        of_anew = None
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                given = made.detach().requires_grad_()
                of_made = torch.autograd.grad(ctx.follow(given), given, slopes)[0]
            mirrored = kernel_of(weight.transpose(0, 1).flip(2, 3)).to(of_made.dtype)
            of_anew = of_made.new_empty(len(which), len(mirrored))
            for part, seen in gathered(of_made, neighbours.index_select(0, which)):
                torch.mm(seen, mirrored.T, out=of_anew[part])
            of_anew = of_anew.to(ctx.dtype)
        return slopes, of_anew, None, None, None, None, None
