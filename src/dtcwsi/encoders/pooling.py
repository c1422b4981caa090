"""From what a network gives for an image to one vector."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["AttentionPooling", "Pooled"]


class Pooled(nn.Module):
    """A timm network and its pooling: ``class``, ``class+mean``, or ``mean``, which is the network's own.

    Patch tokens are those behind the class token and the registers.
    """

    def __init__(self, trunk: nn.Module, pooling: str) -> None:
        super().__init__()
        self.trunk, self.pooling = trunk, pooling

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Embed each image."""
        if self.pooling == "mean":
            pooled: Tensor = self.trunk(images)
            return pooled
        tokens: Tensor = self.trunk.forward_features(images)  # type: ignore[operator]
        if self.pooling == "class":
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, self.trunk.num_prefix_tokens :].mean(dim=1)], dim=1)


class AttentionPooling(nn.Module):
    """CONCH's image tower: one learnt query attends to all tokens of a timm network, and its answer is normalised.

    ``bias`` of the four linear maps: CONCH has it, v1.5 has not.
    Source: github mahmoodlab/CONCH, vision_tower.py and transformer.py; mahmoodlab/TRIDENT, conchv1_5.py.
    """

    heads = 8

    def __init__(self, trunk: nn.Module, dim: int, *, bias: bool) -> None:
        super().__init__()
        width = int(trunk.num_features)  # type: ignore[arg-type]
        self.trunk = trunk
        self.query = nn.Parameter(torch.zeros(1, dim))
        self.query_norm, self.token_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(width), nn.LayerNorm(dim)
        self.to_query, self.out = nn.Linear(dim, dim, bias=bias), nn.Linear(dim, dim, bias=bias)
        self.to_key, self.to_value = nn.Linear(width, dim, bias=bias), nn.Linear(width, dim, bias=bias)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Embed each image."""
        tokens = self.token_norm(self.trunk.forward_features(images))  # type: ignore[operator]
        query = self.to_query(self.query_norm(self.query)).expand(len(tokens), 1, -1)
        keys, values = self.to_key(tokens), self.to_value(tokens)
        found = scaled_dot_product_attention(self._by_head(query), self._by_head(keys), self._by_head(values))
        answer = found.transpose(1, 2).flatten(2)
        pooled: Tensor = self.norm(self.out(answer)[:, 0])
        return pooled

    def _by_head(self, rows: Float[Tensor, "images rows dim"]) -> Float[Tensor, "images heads rows part"]:
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)
