"""Transformer blocks whose keys may weigh more or less, or be absent."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from dtcwsi.nn.linear import Linear, linear

__all__ = ["PostNormBlock", "PreNormBlock", "SelfAttention", "resized_positions"]


class SelfAttention(nn.Module):
    """Multi-head attention among the rows of each set; ``bias`` of a key is added to its logits, -inf if it is absent.

    ``dropout`` acts on the weights of attention.
    """

    def __init__(self, width: int, *, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)

    def forward(
        self, rows: Float[Tensor, "sets rows width"], bias: Float[Tensor, "sets rows"]
    ) -> Float[Tensor, "sets rows width"]:
        """Attend from every row."""
        queries, keys, values = self._split(self.qkv(rows)).chunk(3, dim=1)
        mask = bias[:, None, None].to(queries.dtype)
        rate = self.dropout if self.training else 0.0
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=rate)
        merged: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return merged

    def of_first(
        self, rows: Float[Tensor, "sets rows width"], bias: Float[Tensor, "sets rows"]
    ) -> tuple[Float[Tensor, "sets 1 width"], Float[Tensor, "sets rows"]]:
        """Attend from the first row alone, and say how much to each row, a mean over heads without gradient."""
        width = rows.shape[2]
        weight, shift = self.qkv.weight, self.qkv.bias
        queries = self._split(linear(rows[:, :1], weight[:width], shift[:width]))
        keys, values = self._split(linear(rows, weight[width:], shift[width:])).chunk(2, dim=1)
        logits = queries @ keys.mT / math.sqrt(queries.shape[-1])
        weights = (logits + bias[:, None, None]).softmax(dim=-1)
        shares = weights.detach().mean(dim=(1, 2))
        weights = nn.functional.dropout(weights, self.dropout, self.training).to(values.dtype)
        merged: Tensor = self.out((weights @ values).transpose(1, 2).flatten(2))
        return merged, shares

    def _split(self, rows: Float[Tensor, "sets rows wide"]) -> Float[Tensor, "sets heads_of_each rows part"]:
        """Lay out heads first: those of queries, then of keys, then of values."""
        part = self.qkv.in_features // self.heads
        return rows.view(len(rows), rows.shape[1], -1, part).transpose(1, 2)


class PreNormBlock(nn.Module):
    """A block of a vision transformer: rows plus attention of their norm, plus Linear, GELU, Linear of its norm.

    Weights start as small normal numbers, biases as 0.  Source: Dosovitskiy et al. 2021, as DINO builds it.
    """

    def __init__(self, width: int, *, heads: int, hidden: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads=heads)
        self.mlp = nn.Sequential(Linear(width, hidden), nn.GELU(), Linear(hidden, width))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(
        self, rows: Float[Tensor, "sets rows width"], bias: Float[Tensor, "sets rows"]
    ) -> Float[Tensor, "sets rows width"]:
        """Renew every row."""
        rows = rows + self.attention(self.first_norm(rows), bias)
        renewed: Tensor = rows + self.mlp(self.second_norm(rows))
        return renewed

    def of_first(
        self, rows: Float[Tensor, "sets rows width"], bias: Float[Tensor, "sets rows"]
    ) -> tuple[Float[Tensor, "sets 1 width"], Float[Tensor, "sets rows"]]:
        """Renew the first row alone, and say how much it attends to each, a mean over heads without gradient."""
        found, shares = self.attention.of_first(self.first_norm(rows), bias)
        first = rows[:, :1] + found
        return first + self.mlp(self.second_norm(first)), shares


class PostNormBlock(nn.Module):
    """A layer of the first transformer: rows plus attention, their norm, plus Linear, ReLU, Linear of it, their norm.

    ``dropout`` acts on the weights of attention, what attention finds, hidden units and what they give.
    Source: Vaswani et al. 2017, with the starting weights of torch's TransformerEncoderLayer.
    """

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads=heads, dropout=dropout)
        self.mlp = nn.Sequential(Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.attention.qkv.weight)
        nn.init.zeros_(self.attention.qkv.bias)
        nn.init.zeros_(self.attention.out.bias)

    def forward(
        self, rows: Float[Tensor, "sets rows width"], bias: Float[Tensor, "sets rows"]
    ) -> Float[Tensor, "sets rows width"]:
        """Renew every row."""
        rows = self.first_norm(rows + self.dropout(self.attention(rows, bias)))
        renewed: Tensor = self.second_norm(rows + self.dropout(self.mlp(rows)))
        return renewed


def resized_positions(
    stored: Float[Tensor, "1 stored width"], side: int
) -> tuple[Float[Tensor, "width"], Float[Tensor, "cells width"]]:
    """Fit the positions of a square of cells to another square, bicubically, at (side + 0.1) / stored side.

    ``stored`` the class token's, then the cells' row by row. Returns: the class token's, the cells' (side * side).
    Source: DINO's vision transformer, whose 0.1 keeps the side from being rounded down, and shifts the samples.
    """
    was = math.isqrt(stored.shape[1] - 1)
    if was == side:
        return stored[0, 0], stored[0, 1:]
    image = stored[:, 1:].reshape(1, was, was, -1).permute(0, 3, 1, 2)
    image = interpolate(image, scale_factor=((side + 0.1) / was,) * 2, mode="bicubic")
    return stored[0, 0], image[0].flatten(1).T
