"""The tokens between stages."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.compressors.matching import Likeness
from dtcwsi.nn.exact import chunks
from dtcwsi.nn.order import van_der_corput
from dtcwsi.nn.segment import Segments

__all__ = ["Measured", "Tokens"]


@dataclass(frozen=True)
class Measured:
    """What ranking knows of some tokens: ``score`` and the vectors that likeness compares, ``view``.

    ``view`` (tokens, any) or None for the features themselves; ``length`` (tokens,) of those vectors.
    """

    score: Float[Tensor, "tokens"]
    length: Float[Tensor, "tokens"]
    view: Float[Tensor, "tokens view"] | None = None


@dataclass(frozen=True)
class Tokens:
    """Tokens of a batch, bag after bag in each bag's order.

    Features are not copied from stage to stage: token m is row ``row[m]`` of ``patches`` (the input, untouched)
    followed by ``merged``. ``score`` is that of its features; ``view`` is what likeness compares, None for the features
    themselves, and ``length`` its Euclidean length; ``log_size`` and ``log_mass`` are the logs of how many patches and
    of what share of first-stage importance it holds; ``anchor`` is its heaviest patch. Of the patches: ``place`` in the
    bag's order; of the bags: ``sizes`` in patches.
    """

    patches: Float[Tensor, "rows dim"]
    merged: Float[Tensor, "merged dim"]
    row: Int[Tensor, "tokens"]
    segments: Segments
    score: Float[Tensor, "tokens"]
    length: Float[Tensor, "tokens"]
    view: Float[Tensor, "tokens view"] | None
    log_size: Float[Tensor, "tokens"]
    log_mass: Float[Tensor, "tokens"]
    anchor: Int[Tensor, "tokens"]
    place: Int[Tensor, "patches"]
    sizes: Int[Tensor, "bags"]

    def __len__(self) -> int:
        return len(self.row)

    def features(self, tokens: Int[Tensor, "some"] | None = None) -> Float[Tensor, "some dim"]:
        """Gather the features of all tokens, or of some."""
        row = self.row if tokens is None else self.row[tokens]
        if not len(self.merged):
            return self.patches.index_select(0, row)
        old = row < len(self.patches)
        fresh = torch.nonzero(~old).squeeze(1)
        rows = self.patches.index_select(0, torch.where(old, row, 0))
        return rows.index_copy_(0, fresh, self.merged.index_select(0, row[fresh] - len(self.patches)))

    def _dots(self, one: Int[Tensor, "pairs"], other: Int[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """Multiply features of pairs: all as if they were patches, then again those that are not."""
        dim, patches = self.patches.shape[1], len(self.patches)
        dots = _row_dots(
            lambda tokens: self.patches.index_select(0, self.row[tokens].clamp_max(patches - 1)), dim, one, other
        )
        if not len(self.merged):
            return dots
        fresh = torch.nonzero(torch.maximum(self.row[one], self.row[other]) >= patches).squeeze(1)
        return dots.index_copy_(0, fresh, _row_dots(self.features, dim, one[fresh], other[fresh]))

    @property
    def tie(self) -> Int[Tensor, "tokens"]:
        """What decides between tokens of equal rank: it thins a slide evenly, where an index would cut off one side."""
        return van_der_corput(self.place[self.anchor])

    def likeness(self, worth: Float[Tensor, "tokens"], lam: float, wide: torch.dtype) -> Likeness:
        """Say what merge utility is made of."""
        view = self.view
        if view is None:
            return Likeness(self.features, self._dots, self.length, worth, lam, wide)
        rows = partial(torch.index_select, view, 0)
        return Likeness(rows, partial(_row_dots, rows, view.shape[1]), self.length, worth, lam, wide)

    def keep(self, tokens: Int[Tensor, "kept"], segments: Segments) -> "Tokens":
        """Keep some tokens, in the order given; features stay where they are."""
        return replace(
            self,
            row=self.row[tokens],
            segments=segments,
            score=self.score[tokens],
            length=self.length[tokens],
            view=None if self.view is None else self.view[tokens],
            log_size=self.log_size[tokens],
            log_mass=self.log_mass[tokens],
            anchor=self.anchor[tokens],
        )


def _row_dots(
    rows: Callable[[Tensor], Tensor], dim: int, one: Int[Tensor, "pairs"], other: Int[Tensor, "pairs"]
) -> Float[Tensor, "pairs"]:
    """Multiply the vectors of pairs, row by row in float32, so that no batch changes the result."""
    dots = torch.empty(len(one), device=one.device)
    for part in chunks(len(one), 2 * dim):
        dots[part] = (rows(one[part]).float() * rows(other[part]).float()).sum(dim=1)
    return dots
