"""The small network that says where to look, shared by several systems."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.nn.linear import Linear
from dtcwsi.nn.segment import segment_ids

__all__ = ["ACTIVATIONS", "AttentionScores", "predicted_map"]

ACTIVATIONS = {"tanh": torch.tanh_, "relu": torch.relu_, "gelu": torch.nn.functional.gelu}  # in place where they can


class AttentionScores(nn.Module):
    """Score rows: w . (f(V h) * sigmoid(U h)), or w . f(V h) if not ``gated``; ``maps`` scores a row.

    ``activation`` f is one of `ACTIVATIONS`; ``dropout`` acts on each branch; ``bias`` is of all three maps.
    Source: Ilse et al. 2018.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        maps: int = 1,
        gated: bool = True,
        activation: str = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden = Linear(width, hidden, bias=bias)
        self.gate = Linear(width, hidden, bias=bias) if gated else None
        self.score = nn.Linear(hidden, maps, bias=bias)
        self.activation, self.dropout = ACTIVATIONS[activation], nn.Dropout(dropout)

    def forward(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows maps"]:
        """Score every row by itself."""
        hidden = self.dropout(self.activation(self.hidden(rows)))
        if self.gate is not None:
            hidden = hidden * self.dropout(torch.sigmoid_(self.gate(rows)))
        scores: Tensor = self.score(hidden)
        return scores


def predicted_map(
    maps: Float[Tensor, "rows classes"], logits: Float[Tensor, "bags classes"], offsets: Int[Tensor, "bags_plus_one"]
) -> Float[Tensor, "rows"]:
    """Choose each bag's map of the class that its logits predict."""
    chosen = logits.argmax(dim=1)[segment_ids(offsets, len(maps))]
    return maps.gather(1, chosen[:, None]).squeeze(1)
