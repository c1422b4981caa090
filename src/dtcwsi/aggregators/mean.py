"""Mean pooling: the floor under every method that attends."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from dtcwsi.aggregators.abmil import Abmil
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.segment import segment_pool, segment_softmax
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["MeanPooling"]


class MeanPooling(nn.Module):
    """Average projected tokens, each weighed by its size, then classify: Linear + ReLU, mean, Linear.

    ``projection`` is the width of the Linear + ReLU in front, None for none; ``dropout`` acts on the projected tokens.
    Raises: OptionError if an option is out of range.
    """

    any_order: ClassVar[bool] = True
    recipe = replace(Abmil.recipe, source="none of its own: that of abmil, whose floor it is")

    def __init__(self, in_dim: int, n_classes: int, *, projection: int | None = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.projection, width = projection_of(in_dim, projection, dropout)
        self.head = nn.Linear(width, n_classes)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag; attention is a token's size and gate over their sum."""
        projected = self.projection(tokens.features)
        attention = segment_softmax(torch.zeros_like(tokens.bias), tokens.offsets, tokens.bias)
        pooled = segment_pool(projected, attention[:, None], tokens.offsets).squeeze(1)
        teacher = segment_softmax(torch.zeros_like(tokens.bias), tokens.offsets, tokens.size_prior)
        return Aggregated(self.head(pooled), attention, teacher)
