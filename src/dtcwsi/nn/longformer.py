"""Self-attention of cells in windows, with a global token that sees all and is seen by all (Zhang et al. 2021)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.nn.linear import Linear
from dtcwsi.nn.segment import segment_ids, segment_pool, segment_softmax
from dtcwsi.nn.window import Windows, attend_in_windows

__all__ = ["WindowAttention"]


class WindowAttention(nn.Module):
    """Attend from cells to their windows and the global token, and from the global token to all cells and itself.

    ``tied``: the global token has no projections of its own. ``relative``: a bias a head for each offset within twice
    the reach, for global to local (0) and local to global (1), and for the global token to itself. The exact window
    reaches half that far: the table's other entries, kept as published, are never read.
    Rows are laid out as in `Windows`; ``bias`` is added to the logits of its key.
    """

    def __init__(self, width: int, *, heads: int, reach: int, tied: bool = True, relative: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.keys_values, self.out = _projections(width)
        self.of_token = None if tied else nn.ModuleList(_projections(width))
        self.offset_bias = nn.Parameter(torch.zeros((4 * reach - 1) ** 2, heads)) if relative else None
        self.token_bias = nn.Parameter(torch.zeros(2, heads)) if relative else None
        self.own_bias = nn.Parameter(torch.zeros(heads)) if relative else None

    def forward(
        self, rows: Float[Tensor, "rows width"], bias: Float[Tensor, "rows"], windows: Windows
    ) -> Float[Tensor, "rows width"]:
        """Attend from every row."""
        keys, values = self._split(self.keys_values(rows)).chunk(2, dim=1)
        biases = bias[:, None].to(torch.promote_types(bias.dtype, self.query.weight.dtype))
        if self.token_bias is not None:
            lift = self.token_bias[1].expand(len(windows.offsets) - 1, -1)
            biases = biases.repeat(1, self.heads).index_add(0, windows.offsets[:-1], lift.to(biases.dtype))
        queries = self._split(self.query(rows))
        found = self.out(attend_in_windows(queries, keys, values, biases, self.offset_bias, windows).flatten(1))
        own = (keys, values) if self.of_token is None else None
        token, _ = self._token(rows, bias, windows, own)
        made: Tensor = found.index_copy(0, windows.offsets[:-1], token.to(found.dtype))
        return made

    def of_global(
        self, rows: Float[Tensor, "rows width"], bias: Float[Tensor, "rows"], windows: Windows
    ) -> tuple[Float[Tensor, "bags width"], Float[Tensor, "rows heads"]]:
        """Attend from the global tokens alone; also their logits of all rows, without ``bias``."""
        return self._token(rows, bias, windows, None)

    def _token(
        self, rows: Tensor, bias: Tensor, windows: Windows, own: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "bags width"], Float[Tensor, "rows heads"]]:
        query, both, out = (self.query, self.keys_values, self.out) if self.of_token is None else self.of_token
        keys, values = self._split(both(rows)).chunk(2, dim=1) if own is None else own
        queries = self._split(query(rows[windows.offsets[:-1]])) * keys.shape[2] ** -0.5
        ids = segment_ids(windows.offsets, len(rows))
        scores = (
            (queries.index_select(0, ids) * keys)
            .sum(dim=2)
            .to(torch.promote_types(bias.dtype, self.query.weight.dtype))
        )
        if self.token_bias is not None and self.own_bias is not None:
            lift = (self.own_bias - self.token_bias[0]).expand(len(queries), -1)
            scores = (scores + self.token_bias[0]).index_add(0, windows.offsets[:-1], lift.to(scores.dtype))
        shares = segment_softmax(scores, windows.offsets, bias)
        pooled = segment_pool(values.flatten(1), shares, windows.offsets)
        pooled = pooled.view(len(pooled), self.heads, *keys.shape[1:]).diagonal(dim1=1, dim2=2).mT
        return out(pooled.flatten(1)), scores

    def _split(self, rows: Float[Tensor, "rows wide"]) -> Float[Tensor, "rows heads_of_each part"]:
        """Part the heads: those of queries, or of keys and then of values."""
        return rows.view(len(rows), -1, self.query.out_features // self.heads)


def _projections(width: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Build those of queries, of keys and values, and of what was found."""
    return Linear(width, width), Linear(width, 2 * width), Linear(width, width)
