"""Whether the tokens have told a model in training anything yet."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["TOKENS_WEIGHT", "Doubt"]

TOKENS_WEIGHT = 0.3
_SHARE_OF_CHANCE = 0.6
_MEMORY = 0.9


class Doubt:
    """A running mean of the cross-entropy on tokens, held against that of guessing.

    While ``stands``, a model also looks at all patches of its bags, and the cross-entropy on tokens weighs
    ``TOKENS_WEIGHT``. A scorer that has learned nothing keeps the evidence by chance alone; where a plain model learns
    late in training, it could never find out what to keep from tokens it has already lost. Steps are closed one by one,
    so that all passes of an accumulated step are of one mind.
    """

    def __init__(self) -> None:
        self.stands = False
        self._mean: float | None = None
        self._sum: Tensor | None = None
        self._bags = 0

    def observe(self, losses: Float[Tensor, "bags"]) -> None:
        """Take down the cross-entropies of some bags of the step under way."""
        total = losses.detach().sum()
        self._sum = total if self._sum is None else self._sum + total
        self._bags += len(losses)

    def close_step(self, chance: float) -> None:
        """End the step; ``chance`` is the cross-entropy of guessing by the class shares."""
        if self._sum is None or not self._bags:
            return
        latest = float(self._sum) / self._bags
        self._sum, self._bags = None, 0
        self._mean = latest if self._mean is None else _MEMORY * self._mean + (1 - _MEMORY) * latest
        self.stands = 0 < _SHARE_OF_CHANCE * chance < self._mean
