"""Tokens chosen by chance: the floors under importance and likeness."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dtcwsi.compressors.matching import Edges, every_other, matching_of
from dtcwsi.compressors.ordering import ORDERS
from dtcwsi.compressors.randomness import drawn
from dtcwsi.compressors.schedule import budget_of, cumulative_shares, merging_shares
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.compressors.tokens import Measured, Tokens
from dtcwsi.nn.segment import Segments
from dtcwsi.options import check_whole_number, one_of

__all__ = ["RandomMerging", "RandomSampling"]


class _Chance(StagedCompressor):
    """What both have in common: nothing is measured, draws are new at each training step and fixed at evaluation."""

    matching = matching_of("aligned")

    def __init__(
        self,
        dim: int,
        *,
        retention: float | None = None,
        schedule: Sequence[float] | None = None,
        stages: int | None = None,
        order: str = "hilbert",
        seed: int = 0,
    ) -> None:
        super().__init__(dim)
        self.curriculum = 0.0
        self.order = one_of("order", order, ORDERS)
        self.seed = check_whole_number("seed", seed, least=0, most=2**32 - 1)
        self.shares = self.shares_of(retention, schedule, stages)
        self.settings = {**budget_of(retention, schedule, stages), "order": order, "seed": seed}

    @abstractmethod
    def shares_of(self, retention: object, schedule: object, stages: object) -> tuple[float, ...]:
        """Work out the share of patches left after each stage."""

    def measure(self, features: Float[Tensor, "tokens dim"]) -> Measured:
        """Take all tokens for equal."""
        zeros = torch.zeros(len(features), device=features.device)
        return Measured(zeros, zeros)

    def edges(self, tokens: Tokens, candidates: Segments) -> Edges:
        """Pair neighbours and draw each pair's utility."""
        target = every_other(tokens.segments, candidates)
        return Edges(target + 1, target, self._drawn(tokens)[target])

    def ranks(self, tokens: Tokens, before: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:  # noqa: ARG002
        """Draw who stays."""
        return self._drawn(tokens)

    def _drawn(self, tokens: Tokens) -> Float[Tensor, "tokens"]:
        return drawn(tokens, fixed=not self.training, seed=self.seed)


class RandomSampling(_Chance):
    """Keep a random share of the patches: the paper's random sampling, and the same law as its random pruning.

    ``retention`` or ``schedule`` and ``stages`` as for `dtc`; ``order`` and ``seed`` fix the draws of evaluation.
    Raises: OptionError if an option is out of range.  Source: Tables 1, 3 and 4.
    """

    merge_share = 0.0

    def shares_of(self, retention: object, schedule: object, stages: object) -> tuple[float, ...]:
        """Work out the share of patches left after each stage."""
        return cumulative_shares(retention, schedule, stages)


class RandomMerging(_Chance):
    """Merge random pairs of neighbours, weighted by size, in as many stages as the budget needs.

    ``retention`` or ``schedule`` and ``stages`` as for `merge-only`; ``order`` and ``seed`` fix evaluation's draws.
    Raises: OptionError if an option is out of range.  Source: Table 4.
    """

    merge_share = 1.0

    def shares_of(self, retention: object, schedule: object, stages: object) -> tuple[float, ...]:
        """Work out the shares; one stage can at most halve a list."""
        return merging_shares(retention, schedule, stages)
