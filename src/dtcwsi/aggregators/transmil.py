"""TransMIL: self-attention over a slide's tokens laid out as a square (Shao et al. 2021)."""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from dtcwsi.later import later
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.nystrom import NystromAttention, normed_behind_pad
from dtcwsi.options import check_heads, check_share, check_whole_number, one_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["TransMil"]

_ATTENTIONS = ("last", "rollout")


class TransMil(nn.Module):
    """Linear + ReLU, a class token, Nystrom attention, convolutions over a square (PPEG), attention again, Linear.

    Tokens fill a square row by row in their spatial order, or the order given without coordinates; the first ones fill
    what is left of it. ``width`` of the tokens, ``heads``, ``landmarks`` (half the width without), ``iterations`` of
    the pseudo-inverse; ``dropout`` acts behind each attention.
    Attention is rolled out through both layers by the exact products of their factors (Abnar and Zuidema 2020): what
    the class token takes from each token in the second layer, and what it and the tokens that it takes from took from
    each token in the first; means over heads, convolutions between tokens left out, negative sums cut off, repeats
    added to their originals, scaled to sum to 1; where it takes from none, tokens count by their bias. It is worked out
    when it is first read. With ``attention`` "last", not "rollout", it is the second layer's alone, which says less of
    a slide.
    Raises: OptionError if an option is out of range, or the heads do not divide the width.
    Source: Shao et al. 2021 (szc19990412/TransMIL). Adaptations: bags are taken one by one, as published code does
    with its batches of one; a token's log size and gate are added to the attention logits of its key, and the gate
    scales it before the convolutions.
    """

    recipe = TrainingRecipe(
        epochs=200,
        batch_size=2,
        optimizer="lookahead-radam",
        lr=2e-4,
        weight_decay=1e-5,
        decay_vectors=False,
        source="szc19990412/TransMIL, Camelyon/TransMIL.yaml (grad_acc: 2), MyOptimizer/optim_factory.py",
    )

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
        attention: str = "rollout",
    ) -> None:
        super().__init__()
        self.rolls_out = one_of("attention", attention, _ATTENTIONS) == "rollout"
        check_heads(width, heads=heads)
        marks = check_whole_number("landmarks", max(1, width // 2) if landmarks is None else landmarks)
        rate = check_share("dropout", dropout)
        steps = check_whole_number("iterations", iterations)
        self.projection: nn.Module = nn.Sequential(Linear(in_dim, width), nn.ReLU(inplace=True))
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = (
            NystromAttention(width, heads=heads, landmarks=marks, iterations=steps, dropout=rate) for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag by itself; a bag without tokens has its class token alone."""
        vectors, told = self.attended(self.projection(tokens.features), tokens.bias, tokens.gate, tokens.offsets)
        attention = later(told)
        return Aggregated(self.head(vectors), attention, attention)

    def attended(
        self,
        projected: Float[Tensor, "tokens width"],
        bias: Float[Tensor, "tokens"],
        gate: Float[Tensor, "tokens"],
        offsets: Int[Tensor, "bags_plus_one"],
    ) -> tuple[Float[Tensor, "bags width"], Callable[[], Float[Tensor, "tokens"]]]:
        """Take projected tokens through both layers.

        Returns: bag vectors; and what works out the attention, of the weights of now and without gradient.
        """
        sizes = offsets.diff().tolist()
        parts = zip(*(torch.split(rows, sizes) for rows in (projected, bias, gate)), strict=True)
        seen = [self._bag(*part) for part in parts]
        return self.norm(torch.cat([token for token, _ in seen])), lambda: torch.cat([told() for _, told in seen])

    def _bag(
        self, rows: Float[Tensor, "tokens width"], bias: Float[Tensor, "tokens"], gate: Float[Tensor, "tokens"]
    ) -> tuple[Float[Tensor, "1 width"], Callable[[], Float[Tensor, "tokens"]]]:
        count, again = len(rows), self._repeated(len(rows))
        if not count:
            return self.class_token[0], bias.detach
        line = self._behind_class(rows, rows[:again])
        pads = line[:1]
        bias = torch.cat([bias.new_zeros(1), bias, bias[:again]])
        gate = torch.cat([gate, gate[:again]]).exp().to(rows.dtype)
        made, looked = self.first.looked(normed_behind_pad(self.first_norm, line), bias)
        taken_from = looked if self.rolls_out else None
        del looked  # and what it holds on to
        line = made.add_(line[1:])
        line = torch.cat([pads, line[:1], self._placed(line[1:] * gate[:, None])])
        found, shares = self.second.of_first(normed_behind_pad(self.second_norm, line), bias)
        prior = bias[1 : count + 1].detach().to(shares.dtype)
        return line[1:2] + found, partial(_attention, shares, taken_from, prior, again, _autocast_of(rows))

    def _behind_class(self, *rows: Float[Tensor, "_ width"]) -> Float[Tensor, "pad_and_tokens width"]:
        """Put tokens behind the class token, and that behind a row of zeros for the pads of the attention."""
        return torch.cat([pad(self.class_token[0].to(rows[0].dtype), (0, 0, 1, 0)), *rows])

    def _repeated(self, count: int) -> int:
        """Count the tokens that are repeated throughout to fill the square."""
        return math.ceil(math.sqrt(count)) ** 2 - count

    def _square(self, rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "side side width"]:
        side = math.isqrt(len(rows))
        return rows.view(side, side, -1)

    def _placed(self, rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
        """Add the three convolutions to the tokens, as one whose kernel is the sum of theirs and of the identity."""
        kernel = rows.new_zeros(rows.shape[1], 1, 7, 7)
        kernel[:, :, 3, 3] = 1
        bias = rows.new_zeros(rows.shape[1])
        for layer in self.positions:
            weight, rim = layer.get_parameter("weight"), 3 - layer.get_parameter("weight").shape[2] // 2
            kernel = kernel + pad(weight, (rim, rim, rim, rim))
            bias = bias + layer.get_parameter("bias")
        image = self._square(rows)[None].permute(0, 3, 1, 2)
        made = conv2d(image, kernel, bias, padding=3, groups=rows.shape[1])
        return made[0].permute(1, 2, 0).reshape(-1, rows.shape[1])[: len(rows)]


def _autocast_of(rows: Tensor) -> torch.autocast:
    """Give the autocast of now, for work of its tensors that is done later."""
    kind = rows.device.type
    return torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))


@torch.no_grad()
def _attention(
    shares: Float[Tensor, "class_and_tokens"],
    taken_from: Callable[[Tensor], Tensor] | None,
    prior: Float[Tensor, "tokens"],
    again: int,
    autocast: torch.autocast,
) -> Float[Tensor, "tokens"]:
    """Roll the second layer's shares out through the first, and add those of ``again`` repeats to their originals."""
    if taken_from is not None:
        with autocast:  # each layer hands on its input, too
            shares = shares + taken_from(torch.cat([shares[:1] + 1, shares[1:]]))
    count = len(prior)
    shares = shares[1:].clamp_min(0).to(torch.promote_types(shares.dtype, torch.float32))  # sums keep their ends
    shares = shares[:count] + pad(shares[count:], (0, count - again))
    total = shares.sum()
    return torch.where(total > 0, shares / total, prior.softmax(dim=0))
