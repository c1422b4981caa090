"""Square regions of a bag's grid, and slices of them that bound memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dtcwsi.nn.grid import Cells, occupied, weighed
from dtcwsi.nn.segment import offsets_of, segment_ids

__all__ = ["RegionSlice", "Regions", "regions_of"]


@dataclass(frozen=True)
class RegionSlice:
    """Some regions side by side, padded to the fullest.

    ``regions`` (n,) which; ``cells`` (n, most) the cells of each, row by row, then zeros; ``there`` (n, most) which
    entries are cells.
    """

    regions: Int[Tensor, "n"]
    cells: Int[Tensor, "n most"]
    there: Bool[Tensor, "n most"]


@dataclass(frozen=True)
class Regions:
    """Regions that hold a cell, bag after bag, each bag's row by row from its upper left.

    ``offsets`` (bags + 1,) first regions; ``of_cell`` (cells,) each cell's region; ``place`` (cells,) its place there,
    row by row from 0; ``bias`` (regions,) the log of the sum of exp(bias) of the cells.
    """

    offsets: Int[Tensor, "bags_plus_one"]
    of_cell: Int[Tensor, "cells"]
    place: Int[Tensor, "cells"]
    bias: Float[Tensor, "regions"]

    def slices(self, rows: int) -> Iterator[RegionSlice]:
        """Cut the regions, fullest first, so that few entries are pads, into slices of one region or more.

        A slice has at most ``rows`` entries, counting one more for each region, if it is not a single region.
        """
        sizes = self.of_cell.bincount(minlength=len(self.bias))
        by_region, starts = torch.sort(self.of_cell, stable=True).indices, offsets_of(sizes)
        by_size = torch.sort(sizes, descending=True, stable=True).indices
        known, first = sizes[by_size].tolist(), 0
        while first < len(known):
            regions = by_size[first : first + max(1, rows // (known[first] + 1))]
            place = torch.arange(known[first], device=sizes.device)
            there = place < sizes[regions, None]
            cells = by_region[torch.where(there, starts[regions, None] + place, 0)]
            yield RegionSlice(regions, torch.where(there, cells, 0), there)
            first += len(regions)


def regions_of(cells: Cells, side: int) -> Regions:
    """Group each bag's cells in squares of ``side`` by ``side`` cells, from the bag's corner."""
    bag = segment_ids(cells.offsets, len(cells.xy))
    within = cells.xy % side
    places, offsets, of_cell = occupied(cells.xy // side, bag, len(cells.offsets) - 1)
    _, bias = weighed(cells.bias, of_cell, len(places))
    return Regions(offsets, of_cell, within[:, 1] * side + within[:, 0], bias)
