"""Where a patch lies, as numbers beside its features: Section 2.2."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.segment import Segments, segment_min
from dtcwsi.types import PackedBags

__all__ = ["PLACED", "POSITIONS", "POSITION_WIDTH", "positions"]

POSITION_WIDTH = {"none": 0, "paper": 1, "xy": 2, "sinusoidal": 16}
POSITIONS = tuple(POSITION_WIDTH)
PLACED = ("xy", "sinusoidal")  # these need coordinates


def positions(
    name: str, bags: PackedBags, patches: Segments, order: Int[Tensor, "patches"]
) -> Float[Tensor, "patches width"]:
    """Describe each patch's position within its bag, in float32: 16 bits would not tell neighbours apart.

    ``paper``: its index in the bag's order over the number of patches, one number as the text has it; ``xy``: its
    coordinates over the longer side of the bag's box, 0 to 1; ``sinusoidal``: sine and cosine of x and y at four
    wavelengths, from a quarter of that side to twice it.
    Raises: FeaturesError if coordinates are needed and missing.
    """
    if name == "paper":
        share = patches.places / patches.offsets.diff().clamp_min(1)[patches.ids]
        return torch.zeros_like(share).index_copy(0, order, share)[:, None]
    if bags.coords is None:
        raise FeaturesError(f"position={name!r} needs coordinates and a bag of the batch has none; use position='none'")
    xy = torch.stack([_from_zero(bags.coords[:, axis].float(), patches) for axis in (0, 1)], dim=1)
    longest = -segment_min(-xy.amax(dim=1), patches.offsets)
    xy = xy / longest.clamp_min(1.0)[patches.ids][:, None]
    if name == "sinusoidal":
        angles = (
            xy[:, :, None] * torch.tensor([math.pi * 2.0**octave for octave in range(4)], device=xy.device)
        ).flatten(1)
        xy = torch.cat([angles.sin(), angles.cos()], dim=1)
    return xy


def _from_zero(values: Float[Tensor, "patches"], patches: Segments) -> Float[Tensor, "patches"]:
    return values - segment_min(values, patches.offsets)[patches.ids]
