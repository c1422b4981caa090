"""Occupied cells of slides' grids: how systems that use space see tokens."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.segment import offsets_of, segment_ids, segment_min
from dtcwsi.types import CompressedBags, PackedBags

_MOST_CELLS = 1 << 24

__all__ = ["Cells", "cells_of", "check_placed", "laid_out", "occupied", "weighed"]


@dataclass(frozen=True)
class Cells:
    """Cells that hold a token, bag after bag, each bag's row by row from its upper left.

    ``xy`` (cells, 2) column and row, counted as `cells_of` was told; ``offsets`` (bags + 1,) first cells;
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
    Raises: FeaturesError, in the name of the ``owner``, if there are no coordinates, some below 0 where 0 is first, or
    more cells a side than 2^24.
    """
    coords, steps = check_placed(tokens, owner)
    ids = segment_ids(tokens.offsets, len(tokens.features))
    coords = coords.double()
    step = steps.double() if size is None else coords.new_full((tokens.n_bags,), size)
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
    if len(xy) and int(xy.max()) > _MOST_CELLS:
        raise FeaturesError(
            f"{owner} got a grid of {int(xy.max()) + 1:,} cells a side; expected at most {_MOST_CELLS:,}: give the bag "
            "its patch_size_level0, in level-0 pixels"
        )
    place, offsets, of_token = occupied(xy, ids, tokens.n_bags)
    share, bias = weighed(tokens.bias, of_token, len(place))
    return Cells(place, offsets, of_token, share, bias)


def check_placed(tokens: CompressedBags | PackedBags, owner: str) -> tuple[Tensor, Float[Tensor, "bags"]]:
    """Give the coordinates and the steps of the bags' grids.

    Raises: FeaturesError, in the name of the ``owner``, if there are none.
    """
    if tokens.coords is None or tokens.step_level0 is None:
        raise FeaturesError(
            f"{owner} needs the coordinates of patches and a bag of the batch has none; use features with coords "
            "(N, 2) in level-0 pixels, or a model that does without, such as abmil"
        )
    return tokens.coords, tokens.step_level0


def laid_out(tokens: CompressedBags, owner: str) -> CompressedBags:
    """Lay tokens out in squares, row by row in the order given, if no bag of the batch has coordinates.

    Raises: FeaturesError, in the name of the ``owner``, if some bags have coordinates and others none.
    """
    known = tokens.step_level0
    if tokens.coords is not None:
        return tokens
    if known is not None and not bool(known[tokens.offsets.diff() > 0].isnan().all()):
        raise FeaturesError(
            f"{owner} got a batch of which some bags have coordinates and others none; expected those of all or of "
            "none: give the others theirs, or leave them out of all"
        )
    bag = segment_ids(tokens.offsets, len(tokens.features))
    side = tokens.offsets.diff().double().sqrt().ceil().long()[bag]
    place = torch.arange(len(bag), device=bag.device) - tokens.offsets[bag]
    step = torch.ones(tokens.n_bags, device=bag.device)
    return replace(tokens, coords=torch.stack([place % side, place // side], dim=1), step_level0=step)


def occupied(
    xy: Int[Tensor, "rows 2"], bag: Int[Tensor, "rows"], bags: int
) -> tuple[Int[Tensor, "places 2"], Int[Tensor, "bags_plus_one"], Int[Tensor, "rows"]]:
    """Find the columns and rows that are taken, bag after bag, each bag's row by row.

    Returns: the places, the bags' first ones, and each row's place.
    """
    columns, lines = (int(side) + 1 for side in xy.amax(dim=0)) if len(xy) else (1, 1)
    taken, of_row = torch.unique((bag * lines + xy[:, 1]) * columns + xy[:, 0], return_inverse=True)
    places = torch.stack([taken % columns, taken // columns % lines], dim=1)
    return places, offsets_of((taken // (lines * columns)).bincount(minlength=bags)), of_row


def _unknown(tokens: CompressedBags) -> bool:
    sizes, filled = tokens.patch_size_level0, tokens.offsets.diff() > 0
    return sizes is None or bool(sizes[filled].isnan().any())


def weighed(
    bias: Float[Tensor, "rows"], group: Int[Tensor, "rows"], groups: int
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "groups"]]:
    """Normalise exp(bias) within each group; also the log of each group's sum."""
    peak = bias.new_full((groups,), -torch.inf).scatter_reduce(0, group, bias.detach(), "amax")
    weight = (bias - peak[group]).exp()
    total = bias.new_zeros(groups).index_add(0, group, weight)
    return weight / total[group], peak + total.log()
