"""Which tokens stay, and how the choice stays differentiable: Section 2.4.2."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dtcwsi.nn.segment import segment_ids, segment_min

__all__ = ["gate"]


def gate(
    score: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"], pruned: Bool[Tensor, "bags"]
) -> Float[Tensor, "tokens"]:
    """Give survivors of pruning a prior on attention: log sigmoid(s - tau), tau the lowest surviving score.

    The factor lies in [0.5, 1], so that it is the same finite number in training and inference, and every survivor's
    score has a gradient. Bags of which nothing was pruned get 0.
    """
    ids = segment_ids(offsets, score.shape[0])
    lowest = segment_min(score.detach(), offsets)
    return torch.nn.functional.logsigmoid(score - lowest[ids]) * pruned[ids]
