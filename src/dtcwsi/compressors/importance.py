"""How much a token matters: the small network g of Section 2.3."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from dtcwsi.compressors.tokens import Measured
from dtcwsi.nn.chunks import chunks, rows_a_chunk
from dtcwsi.nn.exact import wide_dtype
from dtcwsi.nn.linear import Linear, convolved, convolves, linear

__all__ = ["Importance"]

_MOST_CONVOLVED = 1024  # more gain nothing, and bags of a few patches pay for all

Product = Callable[[Tensor, Tensor], Tensor]


class Importance(nn.Module):
    """Score tokens by LayerNorm, Linear(dim, width), GELU, Linear(width, 1); one network for all stages.

    ``flat_start`` sets the last layer to zero, so that an untrained scorer prefers nothing; without ``norm`` there is
    no LayerNorm, as printed. ``exact`` gives scores that no batch changes, see `values`. ``level`` adds a bias to the
    last layer: only a threshold has a use for it, all else compares scores, and its gradient would be float noise.
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
        self.first, self.last = Linear(dim, width), nn.Linear(width, 1, bias=level)
        if flat_start:
            nn.init.zeros_(self.last.weight)
        if level:
            nn.init.zeros_(self.last.bias)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens"]:
        """Score tokens with gradient, in the precision of the weights or of autocast.

        What lies between is worked out again for the gradient, a chunk at a time, not kept: the LayerNorm's rows are as
        large as tokens, and their slopes as well.
        """
        first = next(chunks(tokens.shape[0], tokens.shape[1], tokens.device), slice(0, 1))
        parts = torch.split(tokens, first.stop)
        return torch.cat(
            [checkpoint(self._scores, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        )

    @torch.no_grad()
    def values(self, tokens: Float[Tensor, "tokens dim"], *, with_view: bool = False) -> Measured:
        """Score tokens such that the batch around them changes nothing, and measure their lengths on the way.

        A matrix product in float32 gives other last bits for other batch shapes, which would decide near ties. Here it
        is a convolution of always one shape, whose rows do not see each other (`convolved`), or float64 where there is
        none; the last layer is float64, and the caller's keys round it. Row-wise sums are the same in any batch.
        ``with_view`` adds the hidden layer before its GELU, a learned low-rank view, and measures its lengths instead.
        Returns: scores in float64, in float32 without ``exact`` or where the device has no float64 (then near ties may
        fall either way); lengths and view float32.
        """
        wide, device = wide_dtype(tokens) if self.exact else torch.float32, tokens.device
        scores, lengths = torch.empty(len(tokens), dtype=wide, device=device), torch.empty(len(tokens), device=device)
        view = torch.empty(len(tokens), self.first.out_features, device=device) if with_view else None
        last_bias = None if self.last.bias is None else self.last.bias.to(wide)
        last = self.last.weight.to(wide), last_bias
        with torch.autocast(device.type, enabled=False):
            room, product = self._room(tokens, wide)
            first = self._folded(room.dtype)
            for rows in (slice(start, start + len(room)) for start in range(0, len(tokens), len(room))):
                hidden, length = self._hidden(tokens[rows], first, room, product)
                scores[rows] = linear(gelu(hidden.to(wide)), *last).squeeze(-1)
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

    def _scores(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens"]:
        rows = tokens.to(self.first.weight.dtype)
        rows = rows if self.norm is None else self.norm(rows)
        scores: Tensor = self.last(gelu(self.first(rows))).squeeze(-1)
        return scores

    def _folded(self, wide: torch.dtype) -> tuple[Tensor, Tensor]:
        """Take the LayerNorm's scale and shift into the first layer, whose rows then do not see a token's mean."""
        weight, bias = self.first.weight.to(wide), self.first.bias.to(wide)
        if self.norm is None:
            return weight, bias
        scale, shift = self.norm.weight.to(wide), self.norm.bias.to(wide)
        folded = weight * scale
        return folded - folded.mean(dim=1, keepdim=True), linear(shift, weight, bias)

    def _room(
        self, tokens: Float[Tensor, "tokens dim"], wide: torch.dtype
    ) -> tuple[Float[Tensor, "most dim"], Product]:
        """Make the memory of a chunk, in the type of its product, which is of all of it if that is a convolution."""
        dim, device = tokens.shape[1], tokens.device
        if self.exact and tokens.dtype != torch.float64 and convolves(tokens[:0].float(), self.first.weight):
            count = min(_MOST_CONVOLVED, rows_a_chunk(dim + self.first.out_features, device))
            return torch.zeros(count, dim, device=device), convolved
        most = max(1, next(chunks(len(tokens), dim // 2, device), slice(0, 1)).stop)
        return torch.empty(most, dim, dtype=wide, device=device), linear if wide == torch.float32 else _wide

    def _hidden(
        self,
        tokens: Float[Tensor, "tokens dim"],
        first: tuple[Tensor, Tensor],
        room: Float[Tensor, "most dim"],
        product: Product,
    ) -> tuple[Float[Tensor, "tokens width"], Float[Tensor, "tokens"]]:
        """Give the hidden layer before its GELU, and the tokens' lengths; ``room`` saves new memory for every chunk."""
        rows, dim, (weight, constant) = room[: len(tokens)], tokens.shape[1], first
        if self.norm is None:
            lengths = torch.linalg.vector_norm(rows.copy_(tokens), dim=1)
        else:
            if tokens.dtype == room.dtype:
                mean = tokens.mean(dim=1, keepdim=True)
                torch.sub(tokens, mean, out=rows)
            else:
                mean = rows.copy_(tokens).mean(dim=1, keepdim=True)
                rows.sub_(mean)
            squares = torch.linalg.vector_norm(rows, dim=1, keepdim=True).square()
            lengths = torch.sqrt(squares + dim * mean.square()).squeeze(1)
        # a convolution of another shape could have other last bits
        hidden = product(room if product is convolved else rows, weight)[: len(rows)]
        if self.norm is not None:
            hidden.div_(torch.sqrt(squares / dim + self.norm.eps))
        return hidden.add_(constant), lengths


def _wide(rows: Float[Tensor, "rows dim"], weight: Float[Tensor, "width dim"]) -> Float[Tensor, "rows width"]:
    """Multiply in float64, in the quicker order of its two."""
    return (weight @ rows.T).T
