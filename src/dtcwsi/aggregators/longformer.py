"""Longformer: attention in windows of the slide's grid and a global token (Zhang et al. 2021)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.errors import OptionError
from dtcwsi.nn.grid import cells_of
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.longformer import WindowAttention
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.segment import segment_shares, segment_softmax
from dtcwsi.nn.window import Windows
from dtcwsi.options import check_heads, check_share, check_switch, check_whole_number
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Longformer"]


class Longformer(nn.Module):
    """Linear + ReLU, a global token, layers of window attention and MLP, LayerNorm and Linear of the global token.

    A cell attends to the occupied cells of the square around it, ``attention_window`` (odd) cells a side, and to the
    global token, which attends to all. Two or more ``layers`` of ``width`` and ``heads``; in the last only the global
    token is computed, as no other output is read. ``tied``: it shares the cells' projections. ``relative``: biases by
    offset. Time and memory are linear in the number of cells.
    ``dropout`` acts on projected cells, behind each attention and twice in each MLP.
    Attention is what the global token takes from each cell in the last layer, a mean over heads, dealt out to the
    cell's tokens by their weight and scaled to sum to 1; the teacher is the same without that layer's gate.
    Raises: OptionError if an option is out of range, or the heads do not divide the width; FeaturesError without
    coordinates.
    Source: Zhang et al. 2021 (microsoft/vision-longformer). Adaptations: one stage on the cells of the patch grid,
    absent cells masked like the published padding; Linear + ReLU for the patch embedding; windows are exact (published
    as SW_EXACT 1, the default being 3 x 3 chunks); slides have any size, so positions are the published relative
    biases and never the absolute ones; no stochastic depth; the log size and gate of a cell's tokens, as one sum, are
    added to the attention logits of its key, and tokens of one cell are averaged by them.
    """

    needs_places: ClassVar[bool] = True
    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=300,
        optimizer="adamw",
        lr=5e-4,
        weight_decay=0.05,
        schedule="cosine",
        lr_end=1e-6,
        warm_up_epochs=5,
        patience=300,
        source="microsoft/vision-longformer, src/config/msvit.yaml; there for images, 1,024 at a time",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        width: int = 512,
        layers: int = 2,
        heads: int = 8,
        attention_window: int = 15,
        tied: bool = True,
        relative: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(width, heads=heads)
        if check_whole_number("attention_window", attention_window, least=3) % 2 == 0:
            raise OptionError(
                f"got attention_window={attention_window}; expected an odd number of cells, as many on each side of one"
            )
        check_switch("tied", tied)
        check_switch("relative", relative)
        rate = check_share("dropout", dropout)
        self.reach = attention_window // 2
        self.projection, _ = projection_of(in_dim, width, rate)
        self.global_token = nn.Parameter(torch.zeros(1, width))
        *first, self.last = (
            _Layer(width, WindowAttention(width, heads=heads, reach=self.reach, tied=tied, relative=relative), rate)
            for _ in range(check_whole_number("layers", layers, least=2))
        )
        self.layers = nn.ModuleList(first)
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, n_classes)
        self._start()

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify all bags at once; a bag without tokens has its global token alone."""
        cells = cells_of(tokens, "longformer")
        windows = Windows.of(cells.xy, cells.offsets, self.reach)
        gathered = cells.gather(self.projection(tokens.features))
        rows = windows.lay_out(self.global_token.to(gathered.dtype).expand(tokens.n_bags, -1), gathered)
        bias = windows.lay_out(cells.bias.new_zeros(tokens.n_bags), cells.bias)
        for layer in self.layers:
            rows = layer(rows, bias, windows)
        token, scores = self.last.of_global(rows, bias, windows)
        token_rows = windows.of_cell.index_select(0, cells.of_token)
        attention = cells.spread(segment_softmax(scores, windows.offsets, bias).mean(dim=1)[windows.of_cell])
        teacher = self._ungated(scores.detach(), token_rows, windows, tokens)
        by_bias = segment_softmax(tokens.bias.detach(), tokens.offsets)  # where the global token takes from none
        attention, teacher = (segment_shares(shares, tokens.offsets, by_bias) for shares in (attention, teacher))
        return Aggregated(self.head(self.norm(token)), attention, teacher)

    @staticmethod
    def _ungated(
        scores: Float[Tensor, "rows heads"], token_rows: Tensor, windows: Windows, tokens: CompressedBags
    ) -> Float[Tensor, "tokens"]:
        """Say what the global token would take from each token if none had a gate."""
        firsts, sizes = windows.offsets[:-1], tokens.size_prior.detach().exp().to(scores.dtype)
        weight = scores.new_zeros(len(scores)).index_add(0, token_rows, sizes)
        shares = segment_softmax(scores, windows.offsets, weight.index_fill(0, firsts, 1.0).log()).mean(dim=1)
        return shares[token_rows] * sizes / weight[token_rows]

    def _start(self) -> None:
        """Draw weights as published: truncated normal numbers of deviation 0.02, zero biases."""
        for name, parameter in self.named_parameters():
            if name.startswith("projection.") or "norm" in name:
                continue
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=0.02)


class _Layer(nn.Module):
    """Attention, then MLP x4, each on normed rows and added to them."""

    def __init__(self, width: int, attention: WindowAttention, rate: float) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention, self.dropout = attention, nn.Dropout(rate)
        self.mlp = nn.Sequential(
            Linear(width, 4 * width), nn.GELU(), nn.Dropout(rate), Linear(4 * width, width), nn.Dropout(rate)
        )

    def forward(
        self, rows: Float[Tensor, "rows width"], bias: Float[Tensor, "rows"], windows: Windows
    ) -> Float[Tensor, "rows width"]:
        rows = rows + self.dropout(self.attention(self.norm(rows), bias, windows))
        return torch.cat([part + self.mlp(self.mlp_norm(part)) for part in torch.split(rows, 4096)])  # the MLP is wide

    def of_global(
        self, rows: Float[Tensor, "rows width"], bias: Float[Tensor, "rows"], windows: Windows
    ) -> tuple[Float[Tensor, "bags width"], Float[Tensor, "rows heads"]]:
        """Give the global tokens alone, and their logits of all rows."""
        found, scores = self.attention.of_global(self.norm(rows), bias, windows)
        token = rows[windows.offsets[:-1]] + self.dropout(found)
        return token + self.mlp(self.mlp_norm(token)), scores
