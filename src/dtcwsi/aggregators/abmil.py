"""Attention-based pooling."""

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.nn.attention import ACTIVATIONS, AttentionScores
from dtcwsi.nn.chunks import in_chunks
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.segment import segment_pool, segment_softmax
from dtcwsi.options import check_switch, check_whole_number, one_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Abmil"]


class Abmil(nn.Module):
    """Pool tokens by learned attention: a = softmax(w . tanh(W h)), z = sum a h, logits = W_c z + b_c.

    ``projection`` is the width of a Linear + ReLU in front, None for none; ``hidden`` the attention's width; ``gated``
    multiplies tanh(W h) by sigmoid(U h); ``activation`` may be relu or gelu in tanh's place; ``attention_bias`` adds
    biases to W, U and w; ``dropout`` acts on the projected tokens.
    Raises: OptionError if an option is out of range.
    Source: Section 2.5 of the DTC-WSI paper, without biases in W and w as printed; gate and projection after Ilse et
    al. 2018 (AMLab-Amsterdam/AttentionDeepMIL), whose network in front, for images of 28 pixels, the projection stands
    for. Adaptations: a token's log size and gate are added to its attention logit, so that a token of several patches
    weighs as they would; classes have logits each, not one probability.
    """

    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=20,
        batch_size=1,
        lr=5e-4,
        weight_decay=1e-4,
        patience=20,
        source="AMLab-Amsterdam/AttentionDeepMIL, MNIST bags",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        projection: int | None = 512,
        hidden: int = 128,
        gated: bool = False,
        activation: str = "tanh",
        attention_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.projection, width = projection_of(in_dim, projection, dropout)
        self.attention = AttentionScores(
            width,
            check_whole_number("hidden", hidden),
            gated=check_switch("gated", gated),
            activation=one_of("activation", activation, ACTIVATIONS),
            bias=check_switch("attention_bias", attention_bias),
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag; a token's log size and gate are added to its attention logit."""
        scores, attention, pooled = self.attended(tokens.features, tokens.bias, tokens.offsets)
        teacher = segment_softmax(scores.detach(), tokens.offsets, tokens.size_prior)
        return Aggregated(self.head(pooled), attention, teacher)

    def attended(
        self,
        features: Float[Tensor, "tokens dim"],
        bias: Float[Tensor, "tokens"],
        offsets: Int[Tensor, "bags_plus_one"],
    ) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"], Float[Tensor, "bags width"]]:
        """Score tokens and pool them by attention, to which ``bias`` is added.

        Returns: scores without the bias, attention, bag vectors.
        """
        projected = in_chunks(self.projection, features)
        scores = in_chunks(self.attention, projected).squeeze(1)
        attention = segment_softmax(scores, offsets, bias)
        return scores, attention, segment_pool(projected, attention[:, None], offsets).squeeze(1)
