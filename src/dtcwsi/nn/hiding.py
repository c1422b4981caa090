"""Which tokens a student does not see: masked hard instance mining (Tang et al. 2023)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dtcwsi.nn.segment import segment_ids, segment_order

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
    attention: Float[Tensor, "tokens *heads"], offsets: Int[Tensor, "bags_plus_one"], hiding: Hiding
) -> Bool[Tensor, "tokens"]:
    """Choose the union of the three kinds, bag by bag; the highest token stays where a bag would lose all.

    Each kind's number is rounded up, and counted from the tokens that the kinds before it leave, as published. Of
    several ``heads`` each names as many, and the tokens that most of them name are taken.
    """
    sizes, ids = offsets.diff(), segment_ids(offsets, len(attention))
    heads = attention[:, None] if attention.ndim == 1 else attention
    hidden = _first(torch.rand_like(heads[:, 0]), offsets, _count(sizes, hiding.drawn))
    left = sizes - ids[hidden].bincount(minlength=len(sizes))
    hidden = hidden | _named(-heads, offsets, _count(left, hiding.low))
    left = sizes - ids[hidden].bincount(minlength=len(sizes))
    candidates = _count(left, hiding.high / hiding.high_drawn)
    dice = torch.where(_named(heads, offsets, candidates), torch.rand_like(heads[:, 0]), -1.0)
    hidden = hidden | _first(dice, offsets, _count(candidates, hiding.high_drawn))
    nothing_left = ids[hidden].bincount(minlength=len(sizes)) == sizes
    return hidden & ~(nothing_left[ids] & _first(heads.sum(dim=1), offsets, torch.ones_like(sizes)))


def _count(sizes: Int[Tensor, "bags"], share: float) -> Int[Tensor, "bags"]:
    return (sizes.double() * share - 1e-9).ceil().long().clamp_min(0).minimum(sizes)


def _named(
    heads: Float[Tensor, "tokens heads"], offsets: Int[Tensor, "bags_plus_one"], count: Int[Tensor, "bags"]
) -> Bool[Tensor, "tokens"]:
    """Choose the tokens of each bag that are among the ``count`` largest of most heads."""
    votes = torch.stack([_first(head, offsets, count) for head in heads.unbind(dim=1)])
    return _first(votes.sum(dim=0).to(heads.dtype), offsets, count)


def _first(
    key: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"], count: Int[Tensor, "bags"]
) -> Bool[Tensor, "tokens"]:
    """Choose the ``count`` tokens of each bag with the largest keys, the first of equals."""
    ids = segment_ids(offsets, len(key))
    order = segment_order(key, ids)
    place = torch.arange(len(key), device=key.device) - offsets[:-1][ids]
    return torch.zeros_like(ids, dtype=torch.bool).index_copy(0, order, place < count[ids])
