"""The small network that says where to look, shared by several systems."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.nn.segment import segment_ids

__all__ = ["AttentionScores", "predicted_map"]


class AttentionScores(nn.Module):
    """Score rows: w . (tanh(V h) * sigmoid(U h)) with biases, or w . tanh(V h) if not ``gated``; ``maps`` scores a row.

    ``dropout`` acts on each branch.  Source: Ilse et al. 2018, as CLAM writes it.
    """

    def __init__(self, width: int, hidden: int, *, maps: int = 1, gated: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.tanh, self.score = nn.Linear(width, hidden), nn.Linear(hidden, maps)
        self.gate = nn.Linear(width, hidden) if gated else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows maps"]:
        """Score every row by itself."""
        hidden = self.dropout(torch.tanh(self.tanh(rows)))
        if self.gate is not None:
            hidden = hidden * self.dropout(torch.sigmoid(self.gate(rows)))
        scores: Tensor = self.score(hidden)
        return scores


def predicted_map(
    maps: Float[Tensor, "rows classes"], logits: Float[Tensor, "bags classes"], offsets: Int[Tensor, "bags_plus_one"]
) -> Float[Tensor, "rows"]:
    """Choose each bag's map of the class that its logits predict."""
    chosen = logits.argmax(dim=1)[segment_ids(offsets, len(maps))]
    return maps.gather(1, chosen[:, None]).squeeze(1)
