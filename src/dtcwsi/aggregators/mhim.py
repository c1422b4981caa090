"""MHIM-MIL: a student that learns from what its teacher does not look at (Tang et al. 2023).

The teacher appears in the course of training as a copy of the model, and follows it. From then on training hides tokens
by the teacher's attention, fewer of the most attended along a cosine, and adds the cross-entropy between the softmax
over channels of the teacher's bag vector and the student's. Prediction sees all tokens.

Training needs to hear of its steps by `Classifier.set_progress`; without it the model stays plain.
Source: DearCaat/MHIM-MIL, branch v1; the defaults are those for CAMELYON16.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.aggregators.abmil import Abmil
from dtcwsi.aggregators.transmil import TransMil
from dtcwsi.later import later
from dtcwsi.nn.nystrom import normed_behind_pad
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.segment import segment_softmax
from dtcwsi.nn.starting import start
from dtcwsi.nn.teaching import Teaching
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["MhimAbmil", "MhimTransMil"]

_LEAST_SIDE = 7
_RECIPE = TrainingRecipe(
    epochs=200,
    batch_size=1,
    lr=2e-4,
    weight_decay=1e-5,
    schedule="cosine",
    patience=30,
    source="DearCaat/MHIM-MIL, branch v1, main.py, as for CAMELYON16",
)


class MhimAbmil(Abmil):
    """ABMIL taught by MHIM: training hides tokens by a teacher's attention and asks for the teacher's bag vector.

    ``warm_up`` share of training before the teacher, a running mean of memory ``ema``; ``hide_random``, ``hide_low``,
    ``hide_high`` shares of a bag hidden in training, the last of most attention, ``high_drawn`` of its candidates, and
    it falls to 0 along a cosine (published `mrh_sche`), while ``ema`` stays (without `mm_sche`); ``agreement`` weighs
    the comparison of bag vectors at ``temperature``. Weights begin as Xavier's normal numbers.
    Raises: OptionError if an option is out of range.
    Source: Tang et al. 2023 (DearCaat/MHIM-MIL, branch v1; there weights of a gated attention are dropped in silence,
    here they count). Adaptation: there the teacher begins as a model trained before, and the student anew but for the
    projection; here both come from one training, whose first part is the baseline's.
    """

    recipe = _RECIPE

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
        start(self, nn.init.xavier_normal_)
        self.teaching: Teaching[Abmil] = Teaching(
            warm_up=warm_up,
            ema=ema,
            hide_random=hide_random,
            hide_low=hide_low,
            hide_high=hide_high,
            high_drawn=high_drawn,
            agreement=agreement,
            temperature=temperature,
        )

    def set_progress(self, progress: float) -> None:
        """End an optimiser step, see `Teaching`."""
        if self.training:
            self.teaching.set_progress(progress, self)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag; in training with a teacher, the part of it that is not hidden."""
        teacher = self.teaching.teacher_of(self) if self.training else None
        if teacher is None:
            return super().forward(tokens)
        with torch.no_grad():
            scores, looked, wanted = teacher.attended(tokens.features, tokens.bias, tokens.offsets)
        seen, offsets = self.teaching.seen(looked, tokens.offsets)
        _, shares, pooled = self.attended(tokens.features[seen], tokens.bias[seen], offsets)
        return Aggregated(
            self.head(pooled),
            torch.zeros_like(looked).index_copy(0, seen, shares),
            segment_softmax(scores, tokens.offsets, tokens.size_prior),
            losses=self.teaching.losses(pooled, wanted),
        )


class MhimTransMil(TransMil):
    """TransMIL taught by MHIM, with tokens repeated to a square for the convolutions only.

    Tokens are hidden by what the class token attends to in the teacher's first layer; its heads vote. ``dropout`` acts
    behind each attention, ``projection_dropout`` on the projected tokens; squares have at least 7 x 7 places, filled
    with zeros. ``warm_up`` share of training before the teacher, a running mean of memory ``ema``; ``hide_random``,
    ``hide_low``, ``hide_high`` shares of a bag hidden in training, the last of most attention, ``high_drawn`` of its
    candidates, and it falls to 0 along a cosine (published `mrh_sche`), while ``ema`` stays (without `mm_sche`);
    ``agreement`` weighs the comparison of bag vectors at ``temperature``. Weights begin as Xavier's normal numbers.
    Raises: OptionError if an option is out of range.
    Source: Tang et al. 2023 (DearCaat/MHIM-MIL, branch v1). Adaptation: there the teacher begins as a model trained
    before, and the student anew but for the projection; here both come from one training, whose first part is the
    baseline's.
    """

    recipe = _RECIPE

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        width: int = 512,
        heads: int = 8,
        landmarks: int | None = None,
        iterations: int = 6,
        dropout: float = 0.1,
        projection_dropout: float = 0.25,
        attention: str = "rollout",
        warm_up: float = 0.5,
        ema: float = 0.9999,
        hide_random: float = 0.0,
        hide_low: float = 0.8,
        hide_high: float = 0.03,
        high_drawn: float = 0.5,
        agreement: float = 0.1,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(
            in_dim,
            n_classes,
            width=width,
            heads=heads,
            landmarks=landmarks,
            iterations=iterations,
            dropout=dropout,
            attention=attention,
        )
        self.projection, _ = projection_of(in_dim, width, projection_dropout)
        start(self, nn.init.xavier_normal_)
        self.teaching: Teaching[MhimTransMil] = Teaching(
            warm_up=warm_up,
            ema=ema,
            hide_random=hide_random,
            hide_low=hide_low,
            hide_high=hide_high,
            high_drawn=high_drawn,
            agreement=agreement,
            temperature=temperature,
        )

    def set_progress(self, progress: float) -> None:
        """End an optimiser step, see `Teaching`."""
        if self.training:
            self.teaching.set_progress(progress, self)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag; in training with a teacher, the part of it that is not hidden."""
        teacher = self.teaching.teacher_of(self) if self.training else None
        if teacher is None:
            return super().forward(tokens)
        with torch.no_grad():
            rows = teacher.projection(tokens.features)
            wanted, taught = teacher.attended(rows, tokens.bias, tokens.gate, tokens.offsets)
            looked = teacher.first_look(rows, tokens.bias, tokens.offsets)
        seen, offsets = self.teaching.seen(looked, tokens.offsets)
        ours = self.projection(tokens.features[seen]), tokens.bias[seen], tokens.gate[seen]
        vectors, shares = self.attended(*ours, offsets)
        shown = later(lambda: _put(shares(), seen, len(looked)))
        return Aggregated(self.head(vectors), shown, later(taught), losses=self.teaching.losses(vectors, wanted))

    def first_look(
        self,
        projected: Float[Tensor, "tokens width"],
        bias: Float[Tensor, "tokens"],
        offsets: Int[Tensor, "bags_plus_one"],
    ) -> Float[Tensor, "tokens heads"]:
        """Say how much the class token attends to each token in the first layer, head by head."""
        sizes, looked = offsets.diff().tolist(), [projected.new_zeros(0, self.first.heads)]
        for rows, biases in zip(torch.split(projected, sizes), torch.split(bias, sizes), strict=True):
            normed = normed_behind_pad(self.first_norm, self._behind_class(rows))
            looked.append(self.first.shares_of_first(normed, nn.functional.pad(biases, (1, 0)))[1:])
        return torch.cat(looked)

    def _repeated(self, count: int) -> int:  # noqa: ARG002
        return 0

    def _square(self, rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "side side width"]:
        filled = torch.cat([rows, rows[: super()._repeated(len(rows))]])
        room = max(0, _LEAST_SIDE**2 - len(filled))
        return super()._square(nn.functional.pad(filled, (0, 0, 0, room)))


def _put(values: Float[Tensor, "seen"], places: Int[Tensor, "seen"], count: int) -> Float[Tensor, "tokens"]:
    return values.new_zeros(count).index_copy(0, places, values)
