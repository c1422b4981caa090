"""Which token each patch is in, stage by stage."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.nn.segment import Segments

__all__ = ["Provenance", "start"]


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
