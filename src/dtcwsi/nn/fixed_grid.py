"""Grids of a fixed number of cells a side, whatever the size of the bag."""

import torch
from jaxtyping import Float
from torch import Tensor

from dtcwsi.nn.grid import Cells, occupied, weighed
from dtcwsi.nn.segment import segment_ids, segment_min

__all__ = ["fitted"]


def fitted(cells: Cells, bias: Float[Tensor, "tokens"], side: int, *, every: bool) -> Cells:
    """Join squares of cells, as small as makes each bag fit into ``side`` by ``side`` of them.

    ``bias`` is the tokens', by whose exponential those of a square are weighed. ``every`` place of each bag is listed,
    or those that hold a token; an empty one's bias is minus infinity.
    """
    bags, bag = len(cells.offsets) - 1, segment_ids(cells.offsets, len(cells.xy))
    extent = 1 - segment_min(-cells.xy.amax(dim=1, keepdim=True).double(), cells.offsets)[:, 0]
    times = (extent / side).ceil().nan_to_num(neginf=1).long().clamp_min(1)
    xy = cells.xy // times[bag, None]
    if every:
        line = torch.arange(side, device=xy.device)
        places = torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=1).repeat(bags, 1)
        offsets = torch.arange(bags + 1, device=xy.device) * side**2
        of_cell = bag * side**2 + xy[:, 1] * side + xy[:, 0]
    else:
        places, offsets, of_cell = occupied(xy, bag, bags)
    of_token = of_cell[cells.of_token]
    share, joint = weighed(bias, of_token, len(places))
    return Cells(places, offsets, of_token, share, joint)
