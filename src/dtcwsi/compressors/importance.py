"""How much a token matters: the small network g of Section 2.3."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

__all__ = ["Importance", "rounded", "rows_of_chunk", "wide_dtype"]

_CHUNK_NUMBERS = 1 << 20
_GRID = 1e7


class Importance(nn.Module):
    """Score tokens by LayerNorm, Linear(dim, 64), GELU, Linear(64, 1); one network for all stages.

    The last layer starts at zero, so that an untrained scorer prefers nothing.
    """

    def __init__(self, dim: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens"]:
        """Score tokens in their own precision, with gradient."""
        scores: Tensor = self.layers(tokens).squeeze(-1)
        return scores

    @torch.no_grad()
    def values(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens"]:
        """Score tokens such that the batch around them changes nothing.

        Matrix products in float32 give other last bits for other batch shapes, which would decide near ties; these are
        float64, chunk by chunk, and rounded to 1e-7, so that equal patches tie exactly.
        Returns: (tokens,) float64; float32 on devices that have no float64, where near ties may fall either way.
        """
        wide = wide_dtype(tokens)
        weights = [parameter.to(wide) for parameter in self.parameters()]
        scores = [_layers(chunk.to(wide), weights) for chunk in rows_of_chunk(tokens)]
        return rounded(torch.cat(scores)) if scores else tokens.new_zeros(0, dtype=wide)

    def taught(self, tokens: Float[Tensor, "tokens dim"], values: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
        """Give ``values`` the gradient of the score: one set of numbers in training and in inference."""
        if not torch.is_grad_enabled():
            return values
        score: Tensor = self(tokens)
        return values + (score - score.detach()).to(values.dtype)


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Name the widest float type of the tensor's device."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def rounded(values: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Round to a grid of 1e-7, so that numbers which differ by float error alone are equal."""
    return torch.round(values * _GRID) / _GRID


def rows_of_chunk(rows: Num[Tensor, "rows width"], *, row_numbers: int | None = None) -> Iterator[Tensor]:
    """Cut a matrix into runs of rows whose wide copies fit a cache.

    ``row_numbers`` is how many numbers a row stands for; its own width unless given.
    """
    if len(rows):
        yield from torch.split(rows, max(1, _CHUNK_NUMBERS // max(1, row_numbers or rows.shape[1])))


def _layers(tokens: Float[Tensor, "tokens dim"], weights: list[Tensor]) -> Float[Tensor, "tokens"]:
    gain, shift, first, first_bias, last, last_bias = weights
    normal = nn.functional.layer_norm(tokens, tokens.shape[1:], gain, shift)
    hidden = nn.functional.gelu(nn.functional.linear(normal, first, first_bias))
    return nn.functional.linear(hidden, last, last_bias).squeeze(-1)
