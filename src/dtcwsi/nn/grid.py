"""Occupied cells of slides' grids: how systems that use space see tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.segment import offsets_of, segment_ids, segment_min
from dtcwsi.types import CompressedBags

__all__ = ["Cells", "cells_of"]


@dataclass(frozen=True)
class Cells:
    """Cells that hold a token, bag after bag, each bag's row by row from its upper left.

    ``xy`` (cells, 2) column and row, from 0 at the bag's smallest x and y; ``offsets`` (bags + 1,) first cells;
    ``of_token`` (tokens,) each token's cell; ``share`` (tokens,) its share of the cell, 1 where it is alone;
    ``bias`` (cells,) what a cell adds to its attention logit: the log of the sum of exp(bias) of its tokens.
    """

    xy: Int[Tensor, "cells 2"]
    offsets: Int[Tensor, "bags_plus_one"]
    of_token: Int[Tensor, "tokens"]
    share: Float[Tensor, "tokens"]
    bias: Float[Tensor, "cells"]

    def gather(self, rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "cells width"]:
        """Average the tokens of each cell by their shares."""
        zeros = rows.new_zeros(len(self.xy), rows.shape[1])
        return zeros.index_add(0, self.of_token, rows * self.share.to(rows.dtype)[:, None])

    def spread(self, attention: Float[Tensor, "cells"]) -> Float[Tensor, "tokens"]:
        """Deal each cell's attention out to its tokens."""
        return attention.index_select(0, self.of_token) * self.share


def cells_of(tokens: CompressedBags, owner: str, *, size: int | None = None, from_corner: bool = True) -> Cells:
    """Find the cells that hold tokens: squares of the patch size, or of ``size`` level-0 pixels.

    They are counted from each bag's smallest x and y, or not ``from_corner`` but from level-0 pixel 0.
    Patches that overlap, or tokens that a compressor has moved together, may share a cell.
    Raises: FeaturesError, in the name of the ``owner``, if there are no coordinates, or some below 0 where 0 is first.
    """
    if tokens.coords is None or tokens.step_level0 is None:
        raise FeaturesError(
            f"{owner} needs the coordinates of patches and a bag of the batch has none; use features with coords "
            "(N, 2) in level-0 pixels, or a model that does without, such as abmil"
        )
    ids = segment_ids(tokens.offsets, len(tokens.features))
    coords = tokens.coords.double()
    step = tokens.step_level0.double() if size is None else coords.new_full((tokens.n_bags,), size)
    if not from_corner and size is None and _unknown(tokens):
        raise FeaturesError(
            f"{owner} needs the patch size in level-0 pixels for a grid that is the same for all bags, and a bag has "
            "none; give patch_size_level0 with the bag, or the model's cell_size"
        )
    if from_corner:
        coords = coords - segment_min(coords, tokens.offsets)[ids]
    xy = (coords / step[ids, None] + 1e-6).floor().long()
    if len(xy) and int(xy.min()) < 0:
        raise FeaturesError(f"{owner} got coordinates below 0; expected level-0 pixels from the slide's corner")
    columns, rows = (int(side) + 1 for side in xy.amax(dim=0)) if len(xy) else (1, 1)
    occupied, of_token = torch.unique((ids * rows + xy[:, 1]) * columns + xy[:, 0], return_inverse=True)
    bag = occupied // (rows * columns)
    place = torch.stack([occupied % columns, occupied // columns % rows], dim=1)
    share, bias = _shares(tokens.bias, of_token, len(occupied))
    return Cells(place, offsets_of(bag.bincount(minlength=tokens.n_bags)), of_token, share, bias)


def _unknown(tokens: CompressedBags) -> bool:
    sizes, filled = tokens.patch_size_level0, tokens.offsets.diff() > 0
    return sizes is None or bool(sizes[filled].isnan().any())


def _shares(
    bias: Float[Tensor, "tokens"], of_token: Int[Tensor, "tokens"], count: int
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "cells"]]:
    """Normalise exp(bias) within each cell; also the log of each cell's sum."""
    peak = bias.new_full((count,), -torch.inf).scatter_reduce(0, of_token, bias.detach(), "amax")
    weight = (bias - peak[of_token]).exp()
    total = bias.new_zeros(count).index_add(0, of_token, weight)
    return weight / total[of_token], peak + total.log()
