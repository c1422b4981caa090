"""Which token each patch is in, stage by stage."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.nn.segment import Segments, segment_ids

__all__ = ["Provenance", "patch_stages", "start"]


@dataclass(frozen=True)
class Provenance:
    """Where the patches of a batch are.

    ``token`` (patches,) row of its token in the batch, -1 once pruned; ``weight`` (patches,) its share in that token;
    ``stages`` one (patches,) a stage: the token's index within its bag, -1 once pruned.
    """

    token: Int[Tensor, "patches"]
    weight: Float[Tensor, "patches"]
    stages: tuple[Tensor, ...] = ()

    def moved(
        self,
        new_token: Int[Tensor, "tokens"],
        part: Float[Tensor, "tokens"],
        tokens: Segments,
        patches: Segments,
    ) -> "Provenance":
        """Follow the patches through one stage.

        ``new_token`` (old tokens,) is each one's new row or -1, ``part`` (old tokens,) its share in the new token;
        ``tokens`` and ``patches`` lay out the bags of both.
        """
        part = torch.where(new_token >= 0, part, 0)
        row = self.token + 1  # a pruned patch, -1, looks at the row put first
        token = _after(-1, new_token).index_select(0, row)
        weight = self.weight * _after(0, part).index_select(0, row)
        within = torch.where(token >= 0, token - tokens.firsts(patches.ids), -1)
        return Provenance(token, weight, (*self.stages, within))


def _after(first: int, values: Tensor) -> Tensor:
    return torch.cat([values.new_full((1,), first), values])


def start(order: Int[Tensor, "patches"]) -> Provenance:
    """Begin with every patch a token of its own, token m being patch ``order[m]``."""
    token = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
    return Provenance(token, torch.ones(len(order), device=order.device))


def patch_stages(
    tokens_by_stage: Int[Tensor, "stages patches"], offsets: Int[Tensor, "bags_plus_one"]
) -> Int[Tensor, "patches"]:
    """Find the stage, counted from 1, at which each patch stopped being a token alone; 0 if it never did."""
    n_stages, n_patches = tokens_by_stage.shape
    there = tokens_by_stage >= 0
    first = offsets[segment_ids(offsets)] + n_patches * torch.arange(n_stages, device=offsets.device)[:, None]
    key = torch.where(there, tokens_by_stage + first, n_stages * n_patches)
    inside = torch.bincount(key.flatten(), minlength=n_stages * n_patches + 1)
    alone = there & (inside[key] == 1)
    alone_stages = alone.sum(dim=0)
    return torch.where(alone_stages == n_stages, 0, alone_stages + 1)
