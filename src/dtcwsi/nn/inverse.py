"""Moore-Penrose inverses by iteration, kept as factors: what is wanted of them is their product with few rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FactoredInverse", "inverse_of"]


@dataclass(frozen=True)
class FactoredInverse:
    """The inverse Z0 q(P0) q(P1) ..., where P = A Z and q(P) = (13 - P (15 - P (7 - P))) / 4, a Z an iteration.

    As P and q(P) commute, the next P is P q(P): three products of matrices an iteration, not four, and the inverse
    itself is never made. Of the last ``left`` factors only the P of the first of them is there, ``last``.
    """

    start: Float[Tensor, "heads size size"]
    factors: tuple[Float[Tensor, "heads size size"], ...]
    last: Float[Tensor, "heads size size"]
    left: int

    def of(self, heads: slice) -> "FactoredInverse":
        """Give the inverses of some heads."""
        factors = tuple(factor[heads] for factor in self.factors)
        return FactoredInverse(self.start[heads], factors, self.last[heads], self.left)

    def detach(self) -> "FactoredInverse":
        """Give the same without gradient."""
        factors = tuple(factor.detach() for factor in self.factors)
        return FactoredInverse(self.start.detach(), factors, self.last.detach(), self.left)

    def behind(self, rows: Float[Tensor, "heads rows size"]) -> Float[Tensor, "heads rows size"]:
        """Give rows times the inverse."""
        for matrix in (self.start, *self.factors):
            rows = rows @ matrix
        for number in range(self.left):
            rows = _times_factor(rows, self.last, number)
        return rows

    def before(self, columns: Float[Tensor, "heads size columns"]) -> Float[Tensor, "heads size columns"]:
        """Give the inverse times columns."""
        rows = columns.mT
        for number in reversed(range(self.left)):
            rows = _times_factor(rows, self.last.mT, number)
        for matrix in reversed((self.start, *self.factors)):
            rows = rows @ matrix.mT
        return rows.mT


def inverse_of(
    matrices: Float[Tensor, "heads size size"],
    iterations: int,
    *,
    left: int = 0,
    counts: Float[Tensor, "size"] | None = None,
) -> FactoredInverse:
    """Approximate inverses, from the transposes over the largest sums of rows and columns of all heads.

    The last ``left`` of the ``iterations`` are left to the rows: that costs three products with the rows for the first
    of them and four times as many for each further one.
    ``counts`` says how many equal rows and columns of a larger matrix each row and column stands for: a column holds
    their sum, the inverse's columns too.
    Source: Razavi et al. 2014, as Xiong et al. 2021 use it.
    """
    counts = matrices.new_ones(matrices.shape[-1]) if counts is None else counts
    flipped, sizes = matrices.mT * counts / counts[:, None], matrices.abs()
    start = flipped / (sizes.sum(dim=-1).amax() * flipped.abs().sum(dim=-1).amax())
    unit = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    product, factors = matrices @ start if iterations else start, list[Tensor]()
    for number in range(iterations - left):
        inner = torch.baddbmm(unit, product, 7 * unit - product, beta=15, alpha=-1)
        factors.append(torch.baddbmm(unit, product, inner, beta=13 / 4, alpha=-1 / 4))
        if number < iterations - 1:
            product = product @ factors[-1]
    return FactoredInverse(start, tuple(factors), product, left)


def _times_factor(rows: Tensor, product: Tensor, number: int) -> Tensor:
    """Multiply rows by q of the P that comes ``number`` iterations after ``product``."""
    inner = 7 * rows - _times_product(rows, product, number)
    inner = 15 * rows - _times_product(inner, product, number)
    return (13 * rows - _times_product(inner, product, number)) / 4


def _times_product(rows: Tensor, product: Tensor, number: int) -> Tensor:
    if not number:
        return rows @ product
    return _times_factor(_times_product(rows, product, number - 1), product, number - 1)
