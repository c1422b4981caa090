"""Several tokens into one: Section 2.4.1, Eq. 4."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.compressors.matching import Edges
from dtcwsi.nn.exact import steps

__all__ = ["Merged", "merge", "sums"]


@dataclass(frozen=True)
class Merged:
    """Groups of tokens made one: a target and the sources of its edges.

    ``target`` (groups,) the token in whose place each stands; ``features`` (groups, dim); ``heaviest`` (groups,) the
    token with the largest share, a target where all but float error is equal; ``group`` (edges,) where each edge's
    source went. Shares carry no gradient:
    ``target_part`` (groups,), ``source_part`` (edges,).
    """

    target: Int[Tensor, "groups"]
    features: Float[Tensor, "groups dim"]
    heaviest: Int[Tensor, "groups"]
    group: Int[Tensor, "edges"]
    target_part: Float[Tensor, "groups"]
    source_part: Float[Tensor, "edges"]


def merge(
    edges: Edges,
    source: Float[Tensor, "edges dim"],
    target: Float[Tensor, "edges dim"],
    source_weight: Float[Tensor, "edges"],
    target_weight: Float[Tensor, "edges"],
    *,
    distinct: bool,
) -> Merged:
    """Average each target with its sources, weighted by the softmax of their log weights.

    With scores as log weights and one source this is Eq. 4, alpha_i / (alpha_i + alpha_j) = sigmoid(s_i - s_j), finite
    where both alpha underflow. ``distinct`` promises that no two edges share a target, which is quicker. Equal tokens
    merge into exactly themselves.
    """
    if distinct:
        part = torch.sigmoid(source_weight - target_weight)
        features = torch.lerp(target, source, part.to(source.dtype)[:, None])
        part = part.detach()
        each = torch.arange(len(part), device=part.device)
        heavier = steps((source_weight - target_weight).detach()) > 0
        heaviest = torch.where(heavier, edges.source, edges.target)
        return Merged(edges.target, features, heaviest, each, 1 - part, part)
    targets, group = torch.unique(edges.target, return_inverse=True)
    one = _an_edge_of(group, len(targets))
    base, base_weight = target[one], target_weight[one]
    peak = base_weight.detach().scatter_reduce(0, group, source_weight.detach(), "amax")
    raw_source, raw_base = torch.exp(source_weight - peak[group]), torch.exp(base_weight - peak)
    total = raw_base.index_add(0, group, raw_source)
    part, base_part = raw_source / total[group], (raw_base / total).detach()
    wide = torch.promote_types(base.dtype, torch.float32)  # differences and sums may leave the range of float16
    added = part.to(wide)[:, None] * (source.to(wide) - target.to(wide))
    features = base.to(wide).index_add(0, group, added).to(base.dtype)
    heaviest = _heaviest(edges, targets, group, part.detach(), base_part)
    return Merged(targets, features, heaviest, group, base_part, part.detach())


def sums(values: Float[Tensor, "tokens"], edges: Edges) -> Float[Tensor, "tokens"]:
    """Add up, in the places of the targets, what the tokens of each group have."""
    return values.index_add(0, edges.target, values.index_select(0, edges.source))


def _an_edge_of(group: Int[Tensor, "edges"], groups: int) -> Int[Tensor, "groups"]:
    """Name the last edge of each group."""
    each = torch.arange(len(group), device=group.device)
    return each.new_zeros(groups).scatter_reduce(0, group, each, "amax")


def _heaviest(
    edges: Edges,
    targets: Int[Tensor, "groups"],
    group: Int[Tensor, "edges"],
    part: Float[Tensor, "edges"],
    base_part: Float[Tensor, "groups"],
) -> Int[Tensor, "groups"]:
    """Name each group's token of the largest share; ties go to the target, then to the last source."""
    most = base_part.scatter_reduce(0, group, part, "amax")
    wins = steps(most[group] - part) == 0
    source = torch.full_like(targets, -1).scatter_reduce(0, group[wins], edges.source[wins], "amax")
    return torch.where(steps(most - base_part) == 0, targets, source)
