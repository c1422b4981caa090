"""Whether the tokens, and the whole bags, have told a model in training anything yet."""

import math

from jaxtyping import Float
from torch import Tensor

from dtcwsi.nn.everywhere import added

__all__ = ["Doubt"]

_TOKENS_WEIGHT = 0.3
_SHARE_OF_CHANCE = 0.6
_MEMORY = 0.9
_LAST_TENTH = 0.9


class Doubt:
    """Running means of the cross-entropies on tokens and on whole bags, held against that of guessing.

    While doubt ``stands``, a model also looks at all patches of its bags. A scorer that has learned nothing keeps the
    evidence by chance alone; where a plain model learns late in training, it could never find out what to keep from
    tokens it has already lost, and their noise would hold it back. So the loss on tokens counts nothing until whole
    bags are understood, and less than theirs until doubt ends; in the last tenth of training it counts in any case.
    Steps are closed one by one, so that all passes of an accumulated step are of one mind, and all devices.
    """

    def __init__(self) -> None:
        self.stands = False
        self._tokens, self._whole = _RunningMean(), _RunningMean()
        self._whole_understood = False

    def observe(self, losses: Float[Tensor, "bags"], *, whole: bool = False) -> None:
        """Take down the cross-entropies on tokens, or on all patches, of some bags of the step under way."""
        (self._whole if whole else self._tokens).add(losses)

    def tokens_weight(self, progress: float) -> float:
        """Weigh the loss on tokens beside that on whole bags; ``progress`` is the share of training that is done."""
        return _TOKENS_WEIGHT if self._whole_understood or progress >= _LAST_TENTH else 0.0

    def close_step(self, chance: float) -> None:
        """End the step; ``chance`` is the cross-entropy of guessing by the class shares."""
        bound = _SHARE_OF_CHANCE * chance
        self.stands = 0 < bound < self._tokens.close_step()
        self._whole_understood = self._whole.close_step() < bound


class _RunningMean:
    """A mean over steps that forgets; not a number, of which no bound is true, until a step has told it something."""

    def __init__(self) -> None:
        self._mean = math.nan
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, losses: Float[Tensor, "bags"]) -> None:
        total = losses.detach().sum()
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(losses)

    def close_step(self) -> float:
        total, count = added([0.0 if self._sum is None else float(self._sum), self._count])
        if count:
            latest = total / count
            self._mean = latest if math.isnan(self._mean) else _MEMORY * self._mean + (1 - _MEMORY) * latest
        self._sum, self._count = None, 0
        return self._mean
