"""Attention of each cell of a grid to the occupied cells around it, in time and memory linear in their number."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from dtcwsi.nn.segment import offsets_of, segment_ids

__all__ = ["Windows", "attend_in_windows"]

_MOST_SCORES = 2**22


@dataclass(frozen=True)
class Windows:
    """Occupied cells in chunks of ``reach`` by ``reach``, whose windows lie in the 3 x 3 chunks around.

    Rows are laid out bag after bag: a global row, then the cells, chunk by chunk. Chunks that are neighbours in a row
    of the grid stand side by side, so that the 3 x 3 around a chunk are three runs of rows, however few are occupied.

    ``place`` (rows, 2) column and row of the grid, 0 for global rows; ``offsets`` (bags + 1,) the bags' first rows;
    ``of_cell`` (cells,) each cell's row. Of each chunk, most keys first: ``bag``, ``first`` row, ``count`` of rows,
    ``runs`` (chunks, 3) and ``run_counts`` (chunks, 3) of the chunks around.
    """

    reach: int
    place: Int[Tensor, "rows 2"]
    offsets: Int[Tensor, "bags_plus_one"]
    of_cell: Int[Tensor, "cells"]
    bag: Int[Tensor, "chunks"]
    first: Int[Tensor, "chunks"]
    count: Int[Tensor, "chunks"]
    runs: Int[Tensor, "chunks 3"]
    run_counts: Int[Tensor, "chunks 3"]

    @classmethod
    def of(cls, xy: Int[Tensor, "cells 2"], offsets: Int[Tensor, "bags_plus_one"], reach: int) -> "Windows":
        """Lay out the cells of each bag, which no two share."""
        ids = segment_ids(offsets, len(xy))
        chunk = xy // reach
        wide, high = (int(last) + 2 for last in chunk.amax(dim=0)) if len(xy) else (2, 2)  # a blank chunk parts rows
        key, order = torch.sort((ids * high + chunk[:, 1]) * wide + chunk[:, 0], stable=True)
        chunks, count = torch.unique_consecutive(key, return_counts=True)
        beside = chunks[:, None] + wide * torch.tensor([-1, 0, 1], device=key.device)
        runs = torch.searchsorted(key, beside - 1)
        run_counts = torch.searchsorted(key, beside + 1, right=True) - runs
        most_first = torch.argsort(run_counts.sum(dim=1), descending=True, stable=True)
        bag = chunks // (wide * high)
        of_cell = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=key.device) + ids + 1)
        place = xy.new_zeros(len(xy) + len(offsets) - 1, 2).index_copy(0, of_cell, xy)
        first = offsets_of(count)[:-1] + bag + 1
        parts = (part[most_first] for part in (bag, first, count, runs + bag[:, None] + 1, run_counts))
        return cls(reach, place, offsets + torch.arange(len(offsets), device=key.device), of_cell, *parts)

    def lay_out(
        self, of_bags: Float[Tensor, "bags *dims"], of_cells: Float[Tensor, "cells *dims"]
    ) -> Float[Tensor, "rows *dims"]:
        """Put what belongs to the global rows and to the cells into one matrix."""
        rows = of_cells.new_zeros(len(self.place), *of_cells.shape[1:])
        return rows.index_copy(0, self.of_cell, of_cells).index_copy(0, self.offsets[:-1], of_bags)

    def slices(self, heads: int) -> Iterator["_Slice"]:
        """Take chunks together, as many as keep the scores of a slice within bounds."""
        queries, keys = int(self.count.amax()) if len(self.count) else 0, self.run_counts.sum(dim=1).tolist()
        start = 0
        while start < len(keys):
            end = start + max(1, _MOST_SCORES // (heads * queries * (keys[start] + 1)))
            yield self._slice(slice(start, end), keys[start])
            start = end

    def _slice(self, chunks: slice, most_keys: int) -> "_Slice":
        count, lengths, device = self.count[chunks, None], self.run_counts[chunks], self.place.device
        number = torch.arange(int(count.amax()), device=device)
        queries = self.first[chunks, None] + number.minimum(count - 1)
        ends, slot = lengths.cumsum(dim=1), torch.arange(most_keys, device=device)
        slots = slot.minimum(ends[:, 2:] - 1)
        run = (slots >= ends[:, :1]).long() + (slots >= ends[:, 1:2]).long()
        keys = slots + (self.runs[chunks] - ends + lengths).gather(1, run)
        own = self.offsets[self.bag[chunks], None]
        apart = self.place[queries][:, :, None] - self.place[keys][:, None]
        seen = (apart.abs() <= self.reach).all(dim=-1) & (slot < ends[:, 2:])[:, None]
        return _Slice(queries, number < count, torch.cat([own, keys], dim=1), seen, apart)


@dataclass(frozen=True)
class _Slice:
    """Some chunks: their ``queries``, which of these are ``real`` and not pads, and their ``keys``, a global one first.

    ``seen`` says which keys but the global one lie in a query's window, ``apart`` how far before it.
    """

    queries: Int[Tensor, "chunks queries"]
    real: Bool[Tensor, "chunks queries"]
    keys: Int[Tensor, "chunks keys_plus_one"]
    seen: Bool[Tensor, "chunks queries keys"]
    apart: Int[Tensor, "chunks queries keys 2"]

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, table: Tensor | None
    ) -> Float[Tensor, "chunks queries heads part"]:
        """Attend from rows taken at ``queries`` to rows taken at ``keys``."""
        added = bias.movedim(2, 1)[:, :, None]
        near = added[..., 1:].masked_fill(~self.seen[:, None], -torch.inf)
        if table is not None:
            side = math.isqrt(len(table)) // 2
            entry = (self.apart[..., 1] + side) * (2 * side + 1) + self.apart[..., 0] + side
            near = near + embedding(torch.where(self.seen, entry, 0), table).movedim(3, 1)
        reach = torch.cat([added[..., :1].expand(*near.shape[:3], 1), near], dim=3).to(queries.dtype)
        queries, keys, values = queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        return scaled_dot_product_attention(queries, keys, values, attn_mask=reach).transpose(1, 2)


def attend_in_windows(
    queries: Float[Tensor, "rows heads part"],
    keys: Float[Tensor, "rows heads part"],
    values: Float[Tensor, "rows heads part"],
    bias: Float[Tensor, "rows heads_or_one"],
    table: Float[Tensor, "entries heads"] | None,
    windows: Windows,
) -> Float[Tensor, "rows heads part"]:
    """Attend from each cell to the cells at most ``reach`` columns and rows away and to its bag's global row.

    ``bias`` is added to the logits of its key; ``table``, of an odd square of entries, by how many rows (slow) and
    columns (fast) the query lies behind the key, zero in its middle. Global rows come back as zeros. The backward pass
    computes slices again, so that neither pass holds more scores than those of one.
    """
    found: Tensor = _InWindows.apply(queries, keys, values, bias, table, windows)
    return found


class _InWindows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, table: Tensor | None, windows: Windows
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, values, bias, table)
        ctx.windows = windows
        made = torch.zeros_like(queries)
        for part in windows.slices(queries.shape[1]):
            found = part.attend(queries[part.queries], keys[part.keys], values[part.keys], bias[part.keys], table)
            made[part.queries[part.real]] = found[part.real]
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        given, needed = ctx.saved_tensors, ctx.needs_input_grad[:5]
        sums = [torch.zeros_like(one, dtype=torch.promote_types(one.dtype, torch.float32)) if need else None
                for one, need in zip(given, needed, strict=True)]  # fmt: skip
        for part in ctx.windows.slices(slope.shape[1]):
            places = (part.queries, part.keys, part.keys, part.keys, None)
            taken = [
                one if one is None else (one if at is None else one[at]).detach().requires_grad_(need)
                for one, at, need in zip(given, places, needed, strict=True)
            ]
            with torch.enable_grad():
                found = part.attend(*taken)
            outer = slope[part.queries] * part.real[..., None, None]
            asked = [one for one in taken if one is not None and one.requires_grad]
            slopes = iter(torch.autograd.grad(found, asked, outer.to(found.dtype)))
            for total, at in zip(sums, places, strict=True):
                if total is not None:
                    _add(total, at, next(slopes))
        return *(None if total is None else total.to(one.dtype) for total, one in zip(sums, given, strict=True)), None


def _add(total: Tensor, rows: Tensor | None, slopes: Tensor) -> None:
    if rows is None:
        total += slopes
    else:
        total.index_add_(0, rows.flatten(), slopes.flatten(0, 1).to(total.dtype))
