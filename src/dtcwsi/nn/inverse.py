"""Moore-Penrose inverses by iteration, kept as factors: what is wanted of them is their product with few rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FactoredInverse", "inverse_of"]


@dataclass(frozen=True)
class FactoredInverse:
    """The inverse Z0 q(P0) q(P1) ..., where P = A Z and q(P) = (13 - P (15 - P (7 - P))) / 4, a Z an iteration.

    As P and q(P) commute, the next P is P q(P), a polynomial of P and its square: two products of matrices an
    iteration, not four. Neither the inverse nor q(P) is ever made: a factor is a P and its square. Of the last ``left``
    factors only the P of the first of them is there, ``last``. All is float32 at least, under autocast too, as an
    iteration makes small errors more than three times as large.
    """

    start: Float[Tensor, "heads size size"]
    factors: tuple[tuple[Float[Tensor, "heads size size"], Float[Tensor, "heads size size"]], ...]
    last: Float[Tensor, "heads size size"]
    left: int

    def of(self, heads: slice) -> "FactoredInverse":
        """Give the inverses of some heads."""
        factors = tuple((product[heads], square[heads]) for product, square in self.factors)
        return FactoredInverse(self.start[heads], factors, self.last[heads], self.left)

    def behind(self, rows: Float[Tensor, "heads rows size"]) -> Float[Tensor, "heads rows size"]:
        """Give rows times the inverse."""
        with torch.autocast(rows.device.type, enabled=False):
            made = rows.to(self.start.dtype) @ self.start
            for product, square in self.factors:
                made = _times_known_factor(made, product, square)
            for number in range(self.left):
                made = _times_factor(made, self.last, number)
        return made.to(rows.dtype)

    def before(self, columns: Float[Tensor, "heads size columns"]) -> Float[Tensor, "heads size columns"]:
        """Give the inverse times columns."""
        with torch.autocast(columns.device.type, enabled=False):
            rows = columns.mT.to(self.start.dtype)
            for number in reversed(range(self.left)):
                rows = _times_factor(rows, self.last.mT, number)
            for product, square in reversed(self.factors):
                rows = _times_known_factor(rows, product.mT, square.mT)
            made = self.start @ rows.mT
        return made.to(columns.dtype)


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
    matrices = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    counts = matrices.new_ones(matrices.shape[-1]) if counts is None else counts.to(matrices.dtype)
    with torch.autocast(matrices.device.type, enabled=False):
        flipped, sizes = matrices.mT * counts / counts[:, None], matrices.abs()
        start = flipped / (sizes.sum(dim=-1).amax() * flipped.abs().sum(dim=-1).amax())
        product, factors = matrices @ start if iterations else start, list[tuple[Tensor, Tensor]]()
        for number in range(iterations - left):
            square = product @ product
            factors.append((product, square))
            if number < iterations - 1:
                inner = torch.add(square, product, alpha=-7)
                inner.diagonal(dim1=1, dim2=2).add_(15)
                product = torch.baddbmm(product, square, inner, beta=13 / 4, alpha=-1 / 4)
    return FactoredInverse(start, tuple(factors), product, left)


def _times_known_factor(rows: Tensor, product: Tensor, square: Tensor) -> Tensor:
    """Multiply rows by q of ``product``, whose square is known."""
    once = rows @ product
    return torch.baddbmm(13 * rows - 15 * once, 7 * rows - once, square, beta=1 / 4, alpha=1 / 4)


def _times_factor(rows: Tensor, product: Tensor, number: int) -> Tensor:
    """Multiply rows by q of the P that comes ``number`` iterations after ``product``."""
    inner = 7 * rows - _times_product(rows, product, number)
    inner = 15 * rows - _times_product(inner, product, number)
    return (13 * rows - _times_product(inner, product, number)) / 4


def _times_product(rows: Tensor, product: Tensor, number: int) -> Tensor:
    if not number:
        return rows @ product
    return _times_factor(_times_product(rows, product, number - 1), product, number - 1)
