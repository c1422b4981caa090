"""Which tokens stay, and how the choice stays differentiable: Section 2.4.2."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dtcwsi.nn.order import van_der_corput
from dtcwsi.nn.segment import segment_ids, segment_min, top_of_segment

__all__ = ["evenly", "gate", "keep_best"]


def evenly(places: Int[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """Give each place in a bag's order a key whose largest values are spread evenly over the order."""
    count = int(places.max()) + 1 if len(places) else 0
    return torch.from_numpy(van_der_corput(count)).to(places.device, torch.float32)[places]


def keep_best(
    score: Float[Tensor, "tokens"],
    place: Int[Tensor, "tokens"],
    offsets: Int[Tensor, "bags_plus_one"],
    count: Int[Tensor, "bags"],
) -> Bool[Tensor, "tokens"]:
    """Mark the ``count[b]`` tokens of each bag with the highest scores.

    Ties thin the slide evenly; by index they would cut off one side of it.
    """
    return top_of_segment([score, evenly(place)], offsets, count)


def gate(
    score: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"], pruned: Bool[Tensor, "bags"]
) -> Float[Tensor, "tokens"]:
    """Give survivors of pruning a prior on attention: log sigmoid(s - tau), tau the lowest surviving score.

    The factor lies in [0.5, 1], so that it is the same finite number in training and inference, and every survivor's
    score has a gradient. Bags of which nothing was pruned get 0.
    """
    ids = segment_ids(offsets)
    lowest = segment_min(score.detach(), offsets)
    return torch.nn.functional.logsigmoid(score - lowest[ids]) * pruned[ids]
