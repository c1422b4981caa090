"""2DMambaMIL: a selective scan over the slide's grid, then attention over its cells (Zhang et al. 2025)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.nn.grid import cells_of
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.mamba import Mamba2dBlock
from dtcwsi.nn.segment import segment_softmax
from dtcwsi.options import check_share, check_whole_number
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Mamba2d"]

_MOST_CELLS = 1 << 20


class Mamba2d(nn.Module):
    """Linear + GELU, a pad token on absent cells, Mamba blocks over the grid, LayerNorm, attention over cells, Linear.

    A bag's patches lie on the grid of its bounding box, one cell a step of its patches or ``cell_size`` level-0 pixels,
    or on a ``grid`` of (rows, columns) from level-0 pixel 0 on, the same for all bags; patches of one cell are
    averaged. ``width`` of the tokens, ``layers``, ``states`` of each channel; ``hidden`` of the attention; ``dropout``
    acts behind the GELU. Weights start as published: Xavier, biases 0, those of steps included. Absent cells take part
    in the attention; the attention told is that of the tokens, scaled to sum to 1. The teacher's logits are without the
    gate, but not the scan that they come from.
    A token's log size and gate are added to its logit in the attention; the scan sees a cell as one whatever its size,
    scaled by the gate. Memory is linear in the cells of the box, absent ones included: at width 128 about 4 KB a cell
    to predict, of one bag at a time, and 7 KB to train, beside 0.1 and 0.25 GB.
    Raises: OptionError if an option is out of range; FeaturesError if coordinates are missing or a bag's box has more
    than 1,048,576 cells.
    Source: Zhang et al. 2025 (AtlasAnalyticsLab/2DMamba). The scan is the paper's, left to right, then top to bottom.
    The published PyTorch scan differs from it on three rows or more, where its vertical pass takes up products that the
    horizontal one left, and in its gradients from two cells on. Adaptations: the published raster is one for a cohort,
    512 level-0 pixels a cell from the slide's corner, here it is each bag's box unless ``grid`` is given; there a
    cell's last patch wins.
    """

    needs_places: ClassVar[bool] = True
    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=20,
        batch_size=1,
        optimizer="adamw",
        lr=1e-4,
        weight_decay=1e-5,
        schedule="cosine",
        patience=20,
        source="AtlasAnalyticsLab/2DMamba, 2DMambaMIL/main.py",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        width: int = 128,
        layers: int = 1,
        states: int = 16,
        hidden: int = 128,
        cell_size: int | None = None,
        grid: Sequence[int] | None = None,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.grid = None if grid is None else _checked_grid(grid)
        check_whole_number("width", width)
        check_whole_number("states", states)
        self.cell_size = None if cell_size is None else check_whole_number("cell_size", cell_size)
        rate = check_share("dropout", dropout)
        self.projection = nn.Sequential(Linear(in_dim, width), nn.GELU(), nn.Dropout(rate))
        self.pad_token = nn.Parameter(torch.rand(width))
        self.blocks = nn.ModuleList(
            Mamba2dBlock(width, states=states) for _ in range(check_whole_number("layers", layers))
        )
        self.norm = nn.LayerNorm(width)
        self.attention = nn.Sequential(
            Linear(width, check_whole_number("hidden", hidden)), nn.Tanh(), nn.Linear(hidden, 1)
        )
        self.head = nn.Linear(width, n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag by itself; a bag without tokens is a single absent cell."""
        cells = cells_of(tokens, "mamba2d", size=self.cell_size, from_corner=self.grid is None)
        rows = cells.gather(self.projection(tokens.features).to(self.pad_token.dtype))
        reach = cells.gather(tokens.gate.exp()[:, None])[:, 0]
        ends = cells.offsets.tolist()
        seen = [
            self._bag(rows[start:end], cells.xy[start:end], cells.bias[start:end], reach[start:end])
            for start, end in zip(ends[:-1], ends[1:], strict=True)
        ]
        logits = self.head(torch.cat([pooled for pooled, _ in seen]))
        scores = torch.cat([scores for _, scores in seen]).index_select(0, cells.of_token)
        attention = segment_softmax(scores, tokens.offsets, tokens.bias)
        teacher = segment_softmax(scores.detach(), tokens.offsets, tokens.size_prior)
        return Aggregated(logits, attention, teacher)

    def _bag(
        self,
        rows: Float[Tensor, "cells width"],
        xy: Int[Tensor, "cells 2"],
        bias: Float[Tensor, "cells"],
        reach: Float[Tensor, "cells"],
    ) -> tuple[Float[Tensor, "1 width"], Float[Tensor, "cells"]]:
        """Give the bag's vector, and what the attention says of the cells that hold tokens."""
        lines, columns = self._sides(xy)
        if columns * lines > _MOST_CELLS:
            raise FeaturesError(
                f"mamba2d lays a bag out on {columns} x {lines} cells; expected {_MOST_CELLS} cells at most; "
                "choose a larger cell_size in level-0 pixels, or check the bag's coordinates and patch size"
            )
        place = xy[:, 1] * columns + xy[:, 0]
        grid = self.pad_token.expand(columns * lines, -1).index_copy(0, place, rows)
        reach = reach.new_ones(columns * lines).index_copy(0, place, reach)
        for block in self.blocks:
            grid = block(grid, reach, columns)
        grid = self.norm(grid)
        scores = self.attention(grid)[:, 0]
        weights = (scores + bias.new_zeros(columns * lines).index_copy(0, place, bias)).softmax(dim=0)
        return weights[None].to(grid.dtype) @ grid, scores.index_select(0, place)

    def _sides(self, xy: Int[Tensor, "cells 2"]) -> tuple[int, int]:
        """Give the rows and columns of a bag's grid.  Raises: FeaturesError if it lies outside the fixed one."""
        columns, lines = (int(side) + 1 for side in xy.amax(dim=0)) if len(xy) else (1, 1)
        if self.grid is None:
            return lines, columns
        if lines > self.grid[0] or columns > self.grid[1]:
            raise FeaturesError(
                f"mamba2d got a bag that reaches row {lines} and column {columns}; expected at most grid={self.grid}, "
                "the rows and columns of cells that it was built for: give a larger grid or none"
            )
        return self.grid


def _checked_grid(grid: Sequence[int]) -> tuple[int, int]:
    if not isinstance(grid, list | tuple) or len(grid) != 2:
        raise OptionError(
            f"got grid={grid!r}; expected (rows, columns), two whole numbers from 1 on: --set grid=[20,30]"
        )
    rows, columns = grid
    return check_whole_number("grid rows", rows), check_whole_number("grid columns", columns)
