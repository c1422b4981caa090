"""Whether the tokens have told a model in training anything yet."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["TOKENS_WEIGHT", "Doubt"]

TOKENS_WEIGHT = 0.3
_SHARE_OF_CHANCE = 0.6
_MEMORY = 0.9


class Doubt:
    """A running mean of the cross-entropy on tokens, held against that of guessing.

    While ``stands``, a model also looks at all patches of its bags, and what it sees in the tokens weighs
    ``TOKENS_WEIGHT``. A scorer that has learned nothing keeps the evidence by chance alone; where a plain model learns
    late in training, it could never find out what to keep from tokens it has already lost. Steps are closed one by one,
    so that all passes of an accumulated step are of one mind.
    """

    def __init__(self) -> None:
        self.stands = False
        self._mean: float | None = None
        self._step: list[Tensor] = []

    def observe(self, losses: Float[Tensor, "bags"]) -> None:
        """Take down the cross-entropies of some bags of the step under way."""
        self._step.append(losses.detach())

    def close_step(self, chance: float) -> None:
        """End the step; ``chance`` is the cross-entropy of guessing by the class shares."""
        if not self._step:
            return
        latest = float(torch.cat(self._step).mean())
        self._step = []
        self._mean = latest if self._mean is None else _MEMORY * self._mean + (1 - _MEMORY) * latest
        self.stands = 0 < _SHARE_OF_CHANCE * chance < self._mean
