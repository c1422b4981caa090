"""Which tokens a student does not see: masked hard instance mining (Tang et al. 2023)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dtcwsi.nn.segment import segment_ids

__all__ = ["Hiding", "hidden_tokens"]


@dataclass(frozen=True)
class Hiding:
    """Shares of a bag's tokens: ``drawn`` at random, the ``low``est and the ``high``est by the teacher's attention.

    Of the highest, ``high_drawn`` says which share of the candidates is drawn: with 0.5, half of twice as many.
    """

    drawn: float
    low: float
    high: float
    high_drawn: float


def hidden_tokens(
    attention: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"], hiding: Hiding
) -> Bool[Tensor, "tokens"]:
    """Choose the union of the three kinds, bag by bag; the highest token stays where a bag would lose all.

    Each kind's number is rounded up, and counted from the tokens that the kinds before it leave, as published.
    """
    sizes, ids = offsets.diff(), segment_ids(offsets, len(attention))
    dice = torch.rand(len(attention), device=attention.device)
    hidden = _places(dice, offsets) < _count(sizes, hiding.drawn)[ids]
    left = sizes - ids[hidden].bincount(minlength=len(sizes))
    hidden = hidden | (_places(-attention, offsets) < _count(left, hiding.low)[ids])
    left = sizes - ids[hidden].bincount(minlength=len(sizes))
    places = _places(attention, offsets)
    candidates = _count(left, hiding.high / hiding.high_drawn)
    of_high = torch.where(places < candidates[ids], torch.rand_like(dice), -1.0)
    hidden = hidden | (_places(of_high, offsets) < _count(candidates, hiding.high_drawn)[ids])
    nothing_left = ids[hidden].bincount(minlength=len(sizes)) == sizes
    return hidden & ~(nothing_left[ids] & (places == 0))


def _count(sizes: Int[Tensor, "bags"], share: float) -> Int[Tensor, "bags"]:
    return (sizes * share - 1e-9).ceil().long().clamp_min(0).minimum(sizes)


def _places(key: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"]) -> Int[Tensor, "tokens"]:
    """Number the tokens of each bag from the largest key on."""
    order = torch.sort(key, descending=True, stable=True).indices
    ids = segment_ids(offsets, len(key))
    order = order[torch.sort(ids[order], stable=True).indices]
    number = torch.arange(len(key), device=key.device) - offsets[:-1][ids]
    return torch.empty_like(number).index_copy(0, order, number)
