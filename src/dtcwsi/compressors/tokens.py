"""The tokens between stages."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.compressors.matching import Likeness
from dtcwsi.nn.exact import pair_dots
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
    themselves, and ``length`` its Euclidean length; ``size`` and ``mass`` are how many patches and what share of
    first-stage importance it holds; ``anchor`` is its heaviest patch. Of the patches: ``place`` in the bag's order and
    ``spread``, its van der Corput value; of the bags: ``sizes`` in patches.
    """

    patches: Float[Tensor, "rows dim"]
    merged: Float[Tensor, "merged dim"]
    row: Int[Tensor, "tokens"]
    segments: Segments
    score: Float[Tensor, "tokens"]
    length: Float[Tensor, "tokens"]
    view: Float[Tensor, "tokens view"] | None
    size: Float[Tensor, "tokens"]
    mass: Float[Tensor, "tokens"]
    anchor: Int[Tensor, "tokens"]
    place: Int[Tensor, "patches"]
    spread: Int[Tensor, "patches"]
    sizes: Int[Tensor, "bags"]

    def __len__(self) -> int:
        return len(self.row)

    def features(self, tokens: Int[Tensor, "some"] | None = None) -> Float[Tensor, "some dim"]:
        """Gather the features of all tokens, or of some."""
        row = self.row if tokens is None else self.row.index_select(0, tokens)
        if not len(self.merged):
            return self.patches.index_select(0, row)
        old = row < len(self.patches)
        fresh = torch.nonzero(~old).squeeze(1)
        rows = self.patches.index_select(0, torch.where(old, row, 0))
        return rows.index_copy_(0, fresh, self.merged.index_select(0, row.index_select(0, fresh) - len(self.patches)))

    def _dots(self, one: Int[Tensor, "pairs"], other: Int[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """Multiply features of pairs: all as if they were patches, then again those of one or two merged tokens."""
        rows, end = (self.row.index_select(0, one), self.row.index_select(0, other)), len(self.patches)
        late, early = torch.maximum(*rows), torch.minimum(*rows)
        if not len(self.merged):
            return pair_dots(self.patches, self.patches, late, early)
        dots = pair_dots(self.patches, self.patches, late.clamp_max(end - 1), early.clamp_max(end - 1))
        fresh = torch.nonzero(late >= end).squeeze(1)
        late, early = late.index_select(0, fresh) - end, early.index_select(0, fresh)
        mixed = pair_dots(self.merged, self.patches, late, early.clamp_max(end - 1))
        both = torch.nonzero(early >= end).squeeze(1)
        mixed.index_copy_(0, both, pair_dots(self.merged, self.merged, late[both], early[both] - end))
        return dots.index_copy_(0, fresh, mixed)

    @property
    def tie(self) -> Int[Tensor, "tokens"]:
        """What decides between tokens of equal rank: it thins a slide evenly, where an index would cut off one side."""
        return self.spread.index_select(0, self.anchor)

    def likeness(self, worth: Float[Tensor, "tokens"], lam: float, wide: torch.dtype) -> Likeness:
        """Say what merge utility is made of."""
        view = self.view
        if view is None:
            return Likeness(self.features, self._dots, self.length, worth, lam, wide)
        return Likeness(
            partial(torch.index_select, view, 0), partial(pair_dots, view, view), self.length, worth, lam, wide
        )

    def keep(self, tokens: Int[Tensor, "kept"], segments: Segments) -> "Tokens":
        """Keep some tokens, in the order given; features stay where they are."""
        return replace(
            self,
            row=self.row.index_select(0, tokens),
            segments=segments,
            score=self.score.index_select(0, tokens),
            length=self.length.index_select(0, tokens),
            view=None if self.view is None else self.view.index_select(0, tokens),
            size=self.size.index_select(0, tokens),
            mass=self.mass.index_select(0, tokens),
            anchor=self.anchor.index_select(0, tokens),
        )
