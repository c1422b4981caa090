"""Position embeddings of one grid of patches for another."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["resampled"]


def resampled(
    positions: Float[Tensor, "1 rows dim"], *, side: int, prefix: int, how: str, scale: float | None = None
) -> Float[Tensor, "1 resampled dim"]:
    """Resample positions of a square grid to ``side`` x ``side``; those of the first ``prefix`` tokens are kept.

    ``how`` is ``bicubic`` (as transformers does), ``bicubic-antialiased`` (timm) or ``bilinear`` (CONCH). ``scale``
    stands in for the ratio of the sides where published code rounds it. Rows that form no square stay as they are.
    """
    count = positions.shape[1] - prefix
    given = math.isqrt(max(count, 0))
    if given == side or given * given != count:
        return positions
    mode, _, antialiased = how.partition("-")
    grid = positions[:, prefix:].float().reshape(1, given, given, -1).permute(0, 3, 1, 2)
    target = {"size": (side, side)} if scale is None else {"scale_factor": (scale, scale)}
    grid = interpolate(grid, mode=mode, antialias=bool(antialiased), align_corners=False, **target)
    return torch.cat([positions[:, :prefix], grid.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)
