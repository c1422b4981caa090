"""MHIM-MIL: a student that learns from what its teacher does not look at (Tang et al. 2023)."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor

from dtcwsi.aggregators.abmil import Abmil
from dtcwsi.nn.hiding import Hiding, hidden_tokens
from dtcwsi.nn.segment import offsets_of, segment_ids, segment_softmax
from dtcwsi.options import check_number
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["MhimAbmil"]


class MhimAbmil(Abmil):
    """ABMIL whose training hides tokens by a teacher's attention and asks for the teacher's bag vector.

    The teacher appears once ``warm_up`` of training is done, a copy of the model, and follows it as a running mean
    with memory ``ema``. From then on training hides ``hide_random`` of a bag's tokens, the ``hide_low`` of least and
    the ``hide_high`` of most attention, a share that falls to 0 along a cosine; the last drawn as ``high_drawn`` of the
    candidates. ``agreement`` weighs the cross-entropy between the softmax over channels of the teacher's bag vector at
    ``temperature`` and the student's. Prediction is plain ABMIL on all tokens.
    Training needs to hear of its steps by `Classifier.set_progress`; without it the model stays plain.
    Raises: OptionError if an option is out of range.
    Source: Tang et al. 2023 (DearCaat/MHIM-MIL, branch v1; defaults are those for CAMELYON16: half of the tokens, none
    of least attention, one in a hundred of most). Adaptation: there the teacher begins as a model trained before, and
    the student anew but for the projection; here both come from one training, whose first part is the baseline's.
    """

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        projection: int | None = 512,
        hidden: int = 128,
        gated: bool = False,
        activation: str = "relu",
        attention_bias: bool = False,
        dropout: float = 0.25,
        warm_up: float = 0.5,
        ema: float = 0.9999,
        hide_random: float = 0.5,
        hide_low: float = 0.0,
        hide_high: float = 0.01,
        high_drawn: float = 0.5,
        agreement: float = 0.1,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(
            in_dim,
            n_classes,
            projection=projection,
            hidden=hidden,
            gated=gated,
            activation=activation,
            attention_bias=attention_bias,
            dropout=dropout,
        )
        self.warm_up, self.ema = _share("warm_up", warm_up), _share("ema", ema)
        self._hiding = Hiding(
            _share("hide_random", hide_random),
            _share("hide_low", hide_low),
            _share("hide_high", hide_high),
            check_number("high_drawn", high_drawn, lambda share: 0 < share <= 1, "a share above 0, up to 1"),
        )
        self.agreement = check_number("agreement", agreement, lambda weight: 0 <= weight < math.inf, "0 or more")
        self.temperature = check_number("temperature", temperature, lambda t: 0 < t < math.inf, "above 0")
        self._progress = 1.0
        self._teacher: list[Abmil] = []  # in a list, so that no state dict holds it

    def set_progress(self, progress: float) -> None:
        """End an optimiser step: the teacher follows, or appears; a smaller ``progress`` begins another training."""
        if progress < self._progress:
            self._teacher = []
        elif progress > self._progress and self._teacher:
            self._follow(self._teacher[0])
        if self.warm_up <= progress < 1 and not self._teacher:
            self._teacher = [copy.deepcopy(self).requires_grad_(False).train()]
        self._progress = progress

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag; in training with a teacher, what it leaves of each bag."""
        if not (self.training and self._teacher):
            return super().forward(tokens)
        with torch.no_grad():
            scores, looked, wanted = self._teacher[0].attended(tokens.features, tokens.bias, tokens.offsets)
        seen = (~hidden_tokens(looked, tokens.offsets, self._hiding_now())).nonzero().squeeze(1)
        offsets = offsets_of(segment_ids(tokens.offsets, len(looked))[seen].bincount(minlength=tokens.n_bags))
        _, shares, pooled = self.attended(tokens.features[seen], tokens.bias[seen], offsets)
        losses = {"teacher_disagreement": self.agreement * _disagreement(pooled, wanted, self.temperature)}
        return Aggregated(
            self.head(pooled),
            torch.zeros_like(looked).index_copy(0, seen, shares),
            segment_softmax(scores, tokens.offsets, tokens.size_prior),
            losses=losses,
        )

    def _hiding_now(self) -> Hiding:
        high = self._hiding.high * 0.5 * (1 + math.cos(math.pi * self._progress))
        return Hiding(self._hiding.drawn, self._hiding.low, high, self._hiding.high_drawn)

    @torch.no_grad()
    def _follow(self, teacher: Abmil) -> None:
        for theirs, ours in zip(teacher.parameters(), self.parameters(), strict=True):
            theirs.lerp_(ours, 1 - self.ema)


def _disagreement(
    ours: Float[Tensor, "bags width"], theirs: Float[Tensor, "bags width"], temperature: float
) -> Float[Tensor, ""]:
    """Compare bag vectors as distributions over channels: cross-entropy, a mean over bags."""
    wanted = (theirs / temperature).softmax(dim=1)
    return -(wanted * ours.log_softmax(dim=1)).sum(dim=1).mean()


def _share(name: str, value: float) -> float:
    return check_number(name, value, lambda share: 0 <= share < 1, "a share from 0 to below 1")
