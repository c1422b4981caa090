"""Rows a few at a time, so that what is computed on the way stays small."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["chunks", "in_chunks", "passes", "rows_a_chunk"]

_CACHED, _LAUNCHED = 1 << 19, 1 << 24


def chunks(rows: int, row_numbers: int, device: torch.device) -> Iterator[slice]:
    """Cut rows of ``row_numbers`` numbers each into runs of `rows_a_chunk`."""
    if torch.compiler.is_compiling():  # the compiler fuses what chunks would keep in cache
        yield slice(0, rows)
        return
    step = rows_a_chunk(row_numbers, device)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def rows_a_chunk(row_numbers: int, device: torch.device) -> int:
    """Say how many rows of ``row_numbers`` numbers each fit a processor's cache, or on a GPU 32 times as many.

    There they should keep the device busy: 16 million numbers are 64 MiB in float32.
    """
    most = _CACHED if device.type == "cpu" else _LAUNCHED
    return max(1, most // max(1, row_numbers))


def passes(rows: Tensor) -> list[slice]:
    """Cut ``rows`` (rows, dim) as `chunks` does, but not at all where gradients will need what is computed of them.

    There is one part at least, an empty one of no rows.
    """
    whole = slice(0, rows.shape[0])
    if torch.is_grad_enabled():
        return [whole]
    return list(chunks(rows.shape[0], rows.shape[1], rows.device)) or [whole]


def in_chunks(layer: nn.Module, rows: Tensor) -> Tensor:
    """Apply a map of single rows; without gradients a chunk at a time, so that no hidden layer stands in memory whole.

    ``rows`` (rows, dim) and the result (rows, any). A layer without weights has nothing in between.
    """
    parts = passes(rows)
    if len(parts) < 2 or next(layer.parameters(), None) is None:
        whole: Tensor = layer(rows)
        return whole
    first = layer(rows[parts[0]])
    made: Tensor = first.new_empty(rows.shape[0], *first.shape[1:])
    made[parts[0]] = first
    for part in parts[1:]:
        made[part] = layer(rows[part])
    return made
