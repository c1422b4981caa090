"""In which order the patches of a bag stand in line for merging."""

import torch
from jaxtyping import Int
from torch import Tensor

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.segment import Segments
from dtcwsi.types import PackedBags

__all__ = ["ORDERS", "order_of"]

ORDERS = ("hilbert", "raster", "given")


def order_of(name: str, bags: PackedBags, patches: Segments) -> Int[Tensor, "patches"]:
    """List the rows of a batch, bag after bag, each bag's in the order asked for.

    ``hilbert``: along the Hilbert curve of the grid cells; ``raster``: by y, then x; both keep the order given where a
    batch has no coordinates. ``given``: the order given, so that permuting a bag changes its tokens.
    Raises: FeaturesError for ``raster`` where some bags of the batch have coordinates and others have not.
    """
    rows = torch.arange(len(bags.features), device=bags.features.device)
    if name == "hilbert":
        return rows if bags.order is None else bags.order
    if name == "given":
        return rows
    if bags.coords is None:
        if bags.coords_dropped:
            raise FeaturesError(
                "a batch mixes bags with and without coordinates; order='raster' needs them of all or none"
            )
        return rows
    for key in (bags.coords[:, 0], bags.coords[:, 1], patches.ids):
        rows = rows[torch.sort(key[rows], stable=True).indices]
    return rows
