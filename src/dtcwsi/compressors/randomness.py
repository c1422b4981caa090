"""Numbers drawn for tokens: anew in training, always the same at evaluation."""

import torch
from jaxtyping import Float
from torch import Tensor

from dtcwsi.compressors.tokens import Tokens

__all__ = ["drawn"]

_BITS = 24


def drawn(tokens: Tokens, *, fixed: bool, seed: int = 0) -> Float[Tensor, "tokens"]:
    """Draw a number in [0, 1) for each token.

    ``fixed`` numbers follow from ``seed``, the number of patches of the bag and the place of the token's anchor in the
    bag's order, so that a slide gets the same ones alone, in any batch and however its patches are listed.
    """
    if not fixed:
        return torch.rand(len(tokens), device=tokens.row.device)
    bag = tokens.segments.ids
    mixed = tokens.place[tokens.anchor] + 1
    for number in (tokens.sizes[bag] + 1, torch.full_like(bag, seed + 1)):
        mixed = _scrambled(mixed * -7046029254386353131 + number)
    return (mixed >> 8 & (1 << _BITS) - 1).to(torch.float32) / (1 << _BITS)


def _scrambled(number: Tensor) -> Tensor:
    """Mix the bits of 64-bit whole numbers.  Source: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    number = (number ^ (number >> 30 & (1 << 34) - 1)) * -4658895280553007687
    number = (number ^ (number >> 27 & (1 << 37) - 1)) * -7723592293110705685
    return number ^ (number >> 31 & (1 << 33) - 1)
