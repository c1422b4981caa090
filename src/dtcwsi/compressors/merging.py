"""Two tokens into one: Section 2.4.1, Eq. 4."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """Merged pairs: ``features`` (pairs, dim) and ``left_part`` (pairs,) the left token's share, without gradient."""

    features: Float[Tensor, "pairs dim"]
    left_part: Float[Tensor, "pairs"]


def merge(
    left: Float[Tensor, "pairs dim"],
    right: Float[Tensor, "pairs dim"],
    left_score: Float[Tensor, "pairs"],
    right_score: Float[Tensor, "pairs"],
) -> Merged:
    """Average pairs by importance: w h_i + (1 - w) h_j with w = sigmoid(s_i - s_j).

    w equals alpha_i / (alpha_i + alpha_j) of Eq. 4 and stays finite where both underflow. Equal tokens merge into
    exactly themselves.
    """
    part = torch.sigmoid(left_score - right_score)
    features = torch.lerp(right, left, part.to(left.dtype)[:, None])
    return Merged(features, part.detach())
