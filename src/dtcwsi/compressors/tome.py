"""Token merging (ToMe): the most similar tokens of the whole bag, whatever they matter."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dtcwsi.compressors.matching import Edges, matching_of
from dtcwsi.compressors.ordering import ORDERS
from dtcwsi.compressors.schedule import budget_of, merging_shares
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.compressors.tokens import Measured, Tokens
from dtcwsi.nn.exact import wide_dtype
from dtcwsi.nn.segment import Segments
from dtcwsi.options import check_switch, one_of

__all__ = ["Tome"]


class Tome(StagedCompressor):
    """Merge every other token into the one most like it by cosine; the best edges of a stage, many to one, by size.

    ``retention`` is the final share of tokens, ``schedule`` the share that each stage keeps, at least 0.5; a retention
    gets as many ``stages`` as halving needs. ``order`` decides which tokens are every other one; ``exact_ranking``
    compares in float64, so that no batch changes a tie. A token's log size is added to its attention. Nothing is
    learned, so there is no curriculum.
    Raises: OptionError if an option is out of range.
    Source: Bolya et al. 2023, "Token Merging: Your ViT But Faster"; here in front of the aggregator.
    """

    matching = matching_of("full")
    merge_share = 1.0

    def __init__(
        self,
        dim: int,
        *,
        retention: float | None = None,
        schedule: Sequence[float] | None = None,
        stages: int | None = None,
        order: str = "hilbert",
        exact_ranking: bool = True,
    ) -> None:
        super().__init__(dim)
        self.curriculum = 0.0
        self.order = one_of("order", order, ORDERS)
        self.exact_ranking = check_switch("exact_ranking", exact_ranking)
        self.shares = merging_shares(retention, schedule, stages)
        self.settings = {
            **budget_of(retention, schedule, stages),
            "order": order,
            "exact_ranking": exact_ranking,
        }

    def measure(self, features: Float[Tensor, "tokens dim"]) -> Measured:
        """Measure lengths; all tokens matter the same."""
        zeros = torch.zeros(len(features), device=features.device)
        wide = torch.promote_types(features.dtype, torch.float32)
        return Measured(zeros, torch.linalg.vector_norm(features, dim=1, dtype=wide).float())

    def edges(self, tokens: Tokens, candidates: Segments) -> Edges:
        """Find each A's best B."""
        wide = wide_dtype(tokens.length) if self.exact_ranking else torch.float32
        return self.matching.edges(
            tokens.segments, candidates, tokens.likeness(torch.zeros_like(tokens.length), 1.0, wide)
        )
