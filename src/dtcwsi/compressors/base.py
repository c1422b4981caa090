"""What every compressor is: packed bags in, fewer tokens and their provenance out."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.errors import FeaturesError
from dtcwsi.options import check_whole_number
from dtcwsi.types import CompressedBags, PackedBags

__all__ = ["CURRICULUM_SHARE", "Compressor"]

CURRICULUM_SHARE = 0.5


class Compressor(nn.Module, ABC):
    """Base of the compressors: tokens come in each bag's order, provenance in the order of the patches.

    Where nobody looks at the order of tokens, not ``in_order``, it is the one given as long as all patches are kept.

    ``dim`` is the width of the features that it takes.
    ``fixed`` are options that a subclass has decided and no longer takes; ``settings`` are all options as they hold,
    presets resolved; ``curriculum`` is the share of training over which the budget tightens; with ``second_look``
    training sees whole bags as well while the tokens tell it nothing; one that is ``taught`` learns from attention.
    """

    fixed: dict[str, Any] = {}
    second_look = False
    taught = False
    in_order = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = check_whole_number("dim", dim)
        self.progress = 1.0
        self.curriculum = CURRICULUM_SHARE
        self.settings: dict[str, Any] = {}

    def __call__(self, bags: Any) -> CompressedBags:
        """Run `forward`.  Raises: FeaturesError if it is given anything but a packed batch of its width."""
        if not isinstance(bags, PackedBags):
            raise FeaturesError(
                f"a compressor got {type(bags).__name__}; expected packed bags: dtcwsi.pack([dtcwsi.Bag(features)])"
            )
        if bags.features.shape[1] != self.dim:
            raise FeaturesError(
                f"features have width {bags.features.shape[1]}; the compressor was built for {self.dim}; use features "
                "of that width, or create the compressor with theirs"
            )
        tokens: CompressedBags = super().__call__(bags)
        return tokens

    @abstractmethod
    def forward(self, bags: PackedBags) -> CompressedBags:
        """Compress every bag; the bags do not see each other."""

    def whole(self, bags: PackedBags) -> CompressedBags:
        """Make every patch a token, with the scores that `auxiliary` teaches."""
        raise NotImplementedError(f"{type(self).__name__} has no second look")

    @property
    def tightness(self) -> float:
        """How tight the budget is: grows to 1 over the curriculum, 1 in evaluation.

        Full compression from the first step would throw evidence away before anything is learned.
        """
        return min(1.0, self.progress / self.curriculum) if self.training and self.curriculum else 1.0

    def auxiliary(self, tokens: CompressedBags, teacher: Float[Tensor, "tokens"]) -> dict[str, Tensor]:
        """Weigh the compressor's own training terms; ``teacher`` is the aggregator's attention without the gate."""
        raise NotImplementedError(f"{type(self).__name__} learns nothing from attention")
