"""What every compressor is: packed bags in, fewer tokens and their provenance out."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.types import CompressedBags, PackedBags

__all__ = ["CURRICULUM_SHARE", "Compressor"]

CURRICULUM_SHARE = 0.5


class Compressor(nn.Module, ABC):
    """Base of the compressors: tokens come in each bag's spatial order, provenance in the order of the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = 1.0

    @abstractmethod
    def forward(self, bags: PackedBags) -> CompressedBags:
        """Compress every bag; the bags do not see each other."""

    @property
    def tightness(self) -> float:
        """How tight the budget is: grows to 1 over the first half of training, 1 in evaluation.

        Full compression from the first step would throw evidence away before anything is learned.
        """
        return min(1.0, self.progress / CURRICULUM_SHARE) if self.training else 1.0

    def auxiliary(
        self,
        tokens: CompressedBags,  # noqa: ARG002
        teacher: Float[Tensor, "tokens"],  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Weigh the compressor's own training terms; ``teacher`` is the aggregator's attention without the gate."""
        return {}
