"""A transformer block among all tokens of each slide, in memory linear in their number."""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from dtcwsi.nn.linear import Linear, linear

__all__ = ["FusedBlock"]

_CHUNK = 4096
_ALIGNED = 8  # widths that fused kernels take as they are


class FusedBlock(nn.Module):
    """Rows plus attention among those of a bag, plus an MLP x4 of it, each of normed rows; q, k, v have no biases.

    ``sizes`` of the bags, whose rows follow one another, are at least 1; bags take turns in attention alone.
    ``bias`` of a key is added to its logits. It travels as one more column of the keys, against a 1 in the queries: as
    a mask it would keep fused kernels from running where it has a gradient, and without them the matrix of all logits
    would stand in memory. Time is quadratic in the rows of a bag, of `of_first` linear.
    ``dropout`` acts behind the attention and twice in the MLP.
    Source: the block of MLNeurosurg/fastglioma's transformer, which is DINO's.
    """

    def __init__(self, width: int, *, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = Linear(width, 3 * width, bias=False), Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(
        self, rows: Float[Tensor, "rows width"], bias: Float[Tensor, "rows"], sizes: list[int]
    ) -> Float[Tensor, "rows width"]:
        """Renew every row."""
        queries, keys, values = self._split(self.qkv(self.norm(rows))).chunk(3)
        part = queries.shape[2]
        spare = -(part + 1) % _ALIGNED
        ones = queries.new_ones(self.heads, len(rows), 1)
        lifts = (bias * part**0.5).to(keys.dtype)[:, None].expand_as(ones)
        queries, keys = (pad(torch.cat(both, dim=2), (0, spare)) for both in ((queries, ones), (keys, lifts)))
        values = pad(values, (0, spare + 1))
        bags = zip(*(torch.split(each[None], sizes, dim=2) for each in (queries, keys, values)), strict=True)
        found = torch.cat([scaled_dot_product_attention(*bag, scale=part**-0.5)[0] for bag in bags], dim=1)  # type: ignore[misc]
        return self._renewed(rows, found[:, :, :part].transpose(0, 1).flatten(1))

    def of_first(
        self, rows: Float[Tensor, "rows width"], bias: Float[Tensor, "rows"], sizes: list[int]
    ) -> tuple[Float[Tensor, "bags width"], Float[Tensor, "heads rows"]]:
        """Renew the bags' first rows alone; also their logits of all rows, without ``bias``."""
        firsts = torch.tensor([0, *accumulate(sizes[:-1])], device=rows.device)
        normed, width = self.norm(rows), rows.shape[1]
        queries = self._split(linear(normed[firsts], self.qkv.weight[:width]))
        keys, values = self._split(linear(normed, self.qkv.weight[width:])).chunk(2)
        queries = queries * queries.shape[2] ** -0.5
        found, seen = [], []
        bags = zip(*(torch.split(each, sizes, dim=-2) for each in (keys, values, bias[:, None])), strict=True)
        for number, (of_bag, held, lifts) in enumerate(bags):
            logits = (queries[:, number : number + 1] @ of_bag.mT).to(bias.dtype)
            weights = (logits + lifts.T).softmax(dim=2).to(held.dtype)
            found.append(weights @ held)
            seen.append(logits[:, 0])
        renewed = self._renewed(rows[firsts], torch.cat(found, dim=1).transpose(0, 1).flatten(1))
        return renewed, torch.cat(seen, dim=1)

    def _renewed(
        self, rows: Float[Tensor, "rows width"], found: Float[Tensor, "rows width"]
    ) -> Float[Tensor, "rows width"]:
        """Add what attention found and what the MLP makes of the sum, a few thousand rows at a time: it is wide."""
        rows = rows + self.dropout(self.out(found))
        return torch.cat([part + self.mlp(self.mlp_norm(part)) for part in torch.split(rows, _CHUNK)])

    def _split(self, rows: Float[Tensor, "rows wide"]) -> Float[Tensor, "heads_of_each rows part"]:
        """Lay out heads first: those of queries, then of keys, then of values."""
        part = self.out.in_features // self.heads
        return rows.view(len(rows), -1, part).transpose(0, 1)
