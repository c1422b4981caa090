"""Positions from learned waves (Li et al. 2021)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.nn.linear import Linear

__all__ = ["FourierPositions"]


class FourierPositions(nn.Module):
    """Turn places in the plane into vectors: cosines and sines of learned waves, then LayerNorm, Linear, GELU, again.

    ``frequencies`` waves, drawn with deviation 0.25 a unit of the places; ``hidden`` width between the Linears, which
    start as Xavier's with biases of 0.01. Waves keep the precision of the places, under autocast and in 16-bit models.
    Source: Li et al. 2021, as MLNeurosurg/fastglioma has it.
    """

    def __init__(self, width: int, *, frequencies: int = 48, hidden: int = 36) -> None:
        super().__init__()
        self.waves = nn.Linear(2, frequencies, bias=False)
        nn.init.normal_(self.waves.weight, std=0.25)
        first, second = Linear(2 * frequencies, hidden), Linear(hidden, width)
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.constant_(layer.bias, 0.01)
        self.mlp = nn.Sequential(nn.LayerNorm(2 * frequencies), first, nn.GELU(), nn.LayerNorm(hidden), second)

    def forward(self, places: Float[Tensor, "rows 2"]) -> Float[Tensor, "rows width"]:
        """Give each place its vector."""
        across, down = self.waves.weight.to(places.dtype).T  # by element: no matrix product, whose last bits depend on
        phases = places[:, :1] * across + places[:, 1:] * down  # the number of rows and show far from the corner
        waves = torch.cat([phases.cos(), phases.sin()], dim=1) / math.sqrt(2 * self.waves.out_features)
        vectors: Tensor = self.mlp(waves.to(self.waves.weight.dtype))
        return vectors
