"""HIPT: a transformer over the patches of each region, another over a slide's regions (Chen et al. 2022)."""

from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.attention import AttentionScores
from dtcwsi.nn.grid import Cells, cells_of
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.regions import Regions, RegionSlice, regions_of
from dtcwsi.nn.segment import segment_pool, segment_softmax
from dtcwsi.nn.vit import PostNormBlock, PreNormBlock, resized_positions
from dtcwsi.options import check_heads, check_whole_number, one_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Hipt", "RegionVit"]

_SIDE, _STORED_SIDE = 16, 14
_ROWS, _KEPT = 16 * (_SIDE * _SIDE + 1), 8192
_LEAST = 1e-30


class Hipt(nn.Module):
    """A vision transformer makes a vector of each region of 16 x 16 patches; a transformer and attention pool them.

    Over the regions of a slide, which have no positions there: Linear + ReLU, ``layers`` post-norm layers, gated
    attention, Linear + ReLU, Linear. ``width`` of regions; ``depth`` blocks and ``heads`` of the region's transformer;
    ``layers`` and ``slide_heads`` of the slide's; ``dropout`` acts in the slide's part alone. ``regions`` are laid on
    the "grid", or "given": each token then is a region's feature, of any width, and there is neither a region
    transformer nor a need of coordinates.
    Attention of a token is its region's in the pooling, times what the region's class token gives to its cell in the
    last block, a mean over heads scaled to sum to 1 over the cells that are there, times its share of the cell.
    Raises: OptionError if an option is out of range, or heads do not divide the width; FeaturesError in a batch
    without coordinates.
    Source: Chen et al. 2022 (mahmoodlab/HIPT). Adaptations: frozen features stand for the first transformer; regions
    are laid from each bag's corner, and cells without a patch are no keys (published regions have all 256). Tokens that
    share a cell are averaged. Log size and gate of tokens are added to the logits of their cells as keys in the region;
    the log of their summed exponentials over a region is added to its logits in all attention of the slide, so that a
    region weighs as many as its patches; of single patches in full regions both cancel. Cost is linear in patches, but
    for the slide's layers, which are quadratic in regions.
    """

    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=20,
        batch_size=1,
        lr=2e-4,
        weight_decay=3.2e-4,  # 1e-5 beside gradients that are divided by 32, to which Adam is blind
        patience=20,
        class_weights="sampled",
        source="mahmoodlab/HIPT, 2-Weakly-Supervised-Subtyping, main.py and utils/core_utils.py",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        regions: str = "grid",
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        layers: int = 2,
        slide_heads: int = 3,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        check_heads(width, heads=heads, slide_heads=slide_heads)
        check_whole_number("depth", depth)
        check_whole_number("layers", layers)
        given = one_of("regions", regions, ("grid", "given")) == "given"
        self.region_width = in_dim if given else width
        self.projection, _ = projection_of(self.region_width, width, dropout)
        self.layers = nn.ModuleList(
            PostNormBlock(width, heads=slide_heads, hidden=width, dropout=float(dropout)) for _ in range(layers)
        )
        self.attention = AttentionScores(width, width, dropout=float(dropout))
        self.summary, _ = projection_of(width, width, dropout)
        self.head = nn.Linear(width, n_classes)
        self.region = None if given else RegionVit(in_dim, width, depth=depth, heads=heads)

    @property
    def needs_places(self) -> bool:
        """Whether regions are laid on the grid, so that bags without coordinates are refused."""
        return self.region is not None

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag by its regions; a bag without tokens has none."""
        if self.region is None:
            logits, attention = self._slide(tokens.features, tokens.bias, tokens.offsets)
            return Aggregated(logits, attention, attention)
        cells = cells_of(tokens, "hipt")
        regions = regions_of(cells, _SIDE)
        vectors, within = self.region(tokens.features, cells, regions)
        logits, over = self._slide(vectors, regions.bias, regions.offsets)
        attention = cells.spread(over[regions.of_cell] * within).detach()
        return Aggregated(logits, attention, attention)

    def aggregate_regions(self, vectors: Float[Tensor, "regions width"]) -> Float[Tensor, "1 classes"]:
        """Give the logits of a slide whose regions already are vectors: the slide's part alone."""
        if vectors.shape[1] != self.region_width:
            raise FeaturesError(f"got vectors of width {vectors.shape[1]}; expected {self.region_width}, a region's")
        ends = torch.tensor([0, len(vectors)], device=vectors.device)
        logits, _ = self._slide(vectors, vectors.new_zeros(len(vectors)), ends)
        return logits

    def _slide(
        self,
        regions: Float[Tensor, "regions dim"],
        bias: Float[Tensor, "regions"],
        offsets: Int[Tensor, "bags_plus_one"],
    ) -> tuple[Float[Tensor, "bags classes"], Float[Tensor, "regions"]]:
        """Pool each bag's regions; also the attention of each region, without gradient."""
        rows, ends = self.projection(regions), offsets.tolist()
        bags = [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]
        rows = torch.cat([self._mixed(rows[bag], bias[bag]) for bag in bags])
        maps = segment_softmax(self.attention(rows), offsets, bias)
        logits = self.head(self.summary(segment_pool(rows, maps, offsets)[:, 0]))
        return logits, maps[:, 0].detach()

    def _mixed(
        self, rows: Float[Tensor, "regions width"], bias: Float[Tensor, "regions"]
    ) -> Float[Tensor, "regions width"]:
        """Let the regions of one bag see each other."""
        if not len(rows):
            return rows
        rows, bias = rows[None], bias[None]
        for layer in self.layers:
            rows = layer(rows, bias)
        return rows[0]


class RegionVit(nn.Module):
    """Linear + GELU, a class token, positions, pre-norm blocks, LayerNorm: a vector for each region.

    Positions are stored for 14 x 14 cells, the crops of its published pretraining, and resized to 16 x 16. Regions
    are taken in slices of bounded size; of more than 8,192 cells training computes each slice again in its backward
    pass instead of keeping what was between.
    """

    def __init__(self, in_dim: int, width: int, *, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = Linear(in_dim, width)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + _STORED_SIDE**2, width))
        self.blocks = nn.ModuleList(PreNormBlock(width, heads=heads, hidden=4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for drawn in (self.embed.weight, self.class_token, self.positions):
            nn.init.trunc_normal_(drawn, std=0.02)
        nn.init.zeros_(self.embed.bias)

    def forward(
        self, features: Float[Tensor, "tokens dim"], cells: Cells, regions: Regions
    ) -> tuple[Float[Tensor, "regions width"], Float[Tensor, "cells"]]:
        """Give each region's vector, and each cell's share of its region's attention, without gradient."""
        rows = nn.functional.gelu(cells.gather(self.embed(features)))  # the map of a mean is the mean of maps
        of_class, of_cells = resized_positions(self.positions, _SIDE)
        first = self.class_token[0] + of_class
        rows = rows + of_cells[regions.place]
        parts = list(regions.slices(_ROWS))
        again = torch.is_grad_enabled() and len(rows) > _KEPT
        vectors, shares = [rows.new_zeros(0, rows.shape[1])], torch.zeros_like(cells.bias)
        for part in parts:
            given = (rows, first, cells.bias, part)
            made, found = checkpoint(self._of, *given, use_reentrant=False) if again else self._of(*given)
            vectors.append(made)
            shares = shares.index_copy(0, part.cells[part.there], found[part.there].to(shares.dtype))
        totals = shares.new_zeros(len(regions.bias)).index_add(0, regions.of_cell, shares)
        order = torch.cat([totals.new_zeros(0, dtype=torch.int64), *(part.regions for part in parts)])
        return torch.cat(vectors)[order.argsort()], shares / totals[regions.of_cell]

    def _of(
        self,
        rows: Float[Tensor, "cells width"],
        first: Float[Tensor, "1 width"],
        bias: Float[Tensor, "cells"],
        part: RegionSlice,
    ) -> tuple[Float[Tensor, "n width"], Float[Tensor, "n most"]]:
        """Run the blocks over a slice; shares are of all attention to cells and to the class token."""
        square = torch.cat([first.expand(len(part.cells), 1, -1).to(rows.dtype), rows[part.cells]], dim=1)
        keys = nn.functional.pad(torch.where(part.there, bias[part.cells], -torch.inf), (1, 0))
        for block in self.blocks[:-1]:
            square = block(square, keys)
        made, shares = cast(PreNormBlock, self.blocks[-1]).of_first(square, keys)
        vectors: Tensor = self.norm(made[:, 0])
        return vectors, shares[:, 1:] + _LEAST
