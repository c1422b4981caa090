"""Max pooling: the floor under every method that looks for one patch."""

from dataclasses import replace

import torch
from torch import nn

from dtcwsi.aggregators.abmil import Abmil
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.segment import segment_argmax
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["MaxPooling"]


class MaxPooling(nn.Module):
    """Take the largest value of every projected feature, then classify: Linear + ReLU, max, Linear.

    Attention is the share of features that a patch has the largest value of, the first of equals. Sizes change nothing;
    tokens are scaled by their gate, so that scores have a gradient.
    ``projection`` is the width of the Linear + ReLU in front, None for none; ``dropout`` acts on the projected tokens.
    Raises: OptionError if an option is out of range.
    """

    recipe = replace(Abmil.recipe, source="none of its own: that of abmil, whose floor it is")

    def __init__(self, in_dim: int, n_classes: int, *, projection: int | None = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.projection, width = projection_of(in_dim, projection, dropout)
        self.head = nn.Linear(width, n_classes)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag; a bag without tokens has zeros."""
        projected = self.projection(tokens.features)
        projected = projected * tokens.gate.exp().to(projected.dtype)[:, None]
        offsets, filled = tokens.offsets, tokens.offsets.diff() > 0
        if not len(projected):
            pooled = projected.new_zeros(tokens.n_bags, self.head.in_features)
            return Aggregated(self.head(pooled), projected.new_zeros(0), projected.new_zeros(0))
        best = segment_argmax(projected, offsets)
        pooled = projected.gather(0, best) * filled[:, None]
        wins = best[filled].flatten()
        wide = torch.promote_types(projected.dtype, torch.float32)
        share = torch.bincount(wins, minlength=len(projected)).to(wide) / projected.shape[1]
        return Aggregated(self.head(pooled), share, share)
