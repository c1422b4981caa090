"""How much a token matters: the small network g of Section 2.3."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from dtcwsi.compressors.tokens import Measured
from dtcwsi.nn.exact import chunks, wide_dtype

__all__ = ["Importance"]


class Importance(nn.Module):
    """Score tokens by LayerNorm, Linear(dim, width), GELU, Linear(width, 1); one network for all stages.

    ``flat_start`` sets the last layer to zero, so that an untrained scorer prefers nothing; without ``norm`` there is
    no LayerNorm, as printed. ``exact`` scores in float64, see `values`. ``level`` adds a bias to the last layer: only a
    threshold has a use for it, all else compares scores, and its gradient would be float noise.
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int = 64,
        norm: bool = True,
        flat_start: bool = True,
        exact: bool = True,
        level: bool = False,
    ) -> None:
        super().__init__()
        self.exact = exact
        self.norm = nn.LayerNorm(dim) if norm else None
        self.first, self.last = nn.Linear(dim, width), nn.Linear(width, 1, bias=level)
        if flat_start:
            nn.init.zeros_(self.last.weight)
        if level:
            nn.init.zeros_(self.last.bias)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens"]:
        """Score tokens with gradient, in the precision of the weights or of autocast."""
        rows = tokens.to(self.first.weight.dtype)
        rows = rows if self.norm is None else self.norm(rows)
        scores: Tensor = self.last(gelu(self.first(rows))).squeeze(-1)
        return scores

    @torch.no_grad()
    def values(self, tokens: Float[Tensor, "tokens dim"], *, with_view: bool = False) -> Measured:
        """Score tokens such that the batch around them changes nothing, and measure their lengths on the way.

        A matrix product in float32 gives other last bits for other batch shapes, which would decide near ties; here it
        is float64 and the caller's keys round it. Row-wise sums are the same in any batch.
        ``with_view`` adds the hidden layer before its GELU, a learned low-rank view, and measures its lengths instead.
        Returns: scores in float64, in float32 without ``exact`` or where the device has no float64 (then near ties may
        fall either way); lengths and view float32.
        """
        wide, device = wide_dtype(tokens) if self.exact else torch.float32, tokens.device
        scores, lengths = torch.empty(len(tokens), dtype=wide, device=device), torch.empty(len(tokens), device=device)
        view = torch.empty(len(tokens), self.first.out_features, device=device) if with_view else None
        hidden_of, last = self._first_layer(wide), _widened(self.last, wide)
        with torch.autocast(device.type, enabled=False):
            for rows in chunks(len(tokens), tokens.shape[1]):
                chunk = tokens[rows].to(wide)
                length = torch.linalg.vector_norm(chunk, dim=1)
                hidden = hidden_of(chunk, length)
                scores[rows] = linear(gelu(hidden), *last).squeeze(-1)
                if view is not None:
                    view[rows] = hidden.float()
                    length = torch.linalg.vector_norm(view[rows], dim=1)
                lengths[rows] = length
        return Measured(scores, lengths, view)

    def taught(self, tokens: Float[Tensor, "tokens dim"], values: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
        """Give ``values`` the gradient of the score: one set of numbers in training and in inference."""
        if not torch.is_grad_enabled():
            return values
        score: Tensor = self(tokens)
        return values + (score - score.detach()).to(values.dtype)

    def _first_layer(self, wide: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the function from rows and their lengths to the hidden layer.

        In float64 the LayerNorm is folded into the weights: these are orthogonal to a row's mean, so that dividing
        their products by the row's spread is all that is left. In float32 the spread would lose its digits.
        """
        weight, bias = _widened(self.first, wide)
        norm = self.norm
        if norm is None:
            return lambda rows, lengths: linear(rows, weight, bias)  # noqa: ARG005
        scale, shift = norm.weight.to(wide), norm.bias.to(wide)
        if wide != torch.float64:
            return lambda rows, lengths: linear(layer_norm(rows, scale.shape, scale, shift, norm.eps), weight, bias)  # noqa: ARG005
        folded, constant = weight * scale, linear(shift, weight, bias)
        folded = folded - folded.mean(dim=1, keepdim=True)

        def hidden(rows: Tensor, lengths: Tensor) -> Tensor:
            variance = lengths.square() / rows.shape[1] - rows.mean(dim=1).square()
            return linear(rows, folded) / torch.sqrt(variance.clamp_min(0) + norm.eps)[:, None] + constant

        return hidden


def _widened(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
