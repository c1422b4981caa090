"""Arithmetic and comparisons that the rest of a batch does not change."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["chunks", "key_of", "steps", "wide_dtype"]

_CHUNK_NUMBERS = 1 << 19
_GRID, _MOST = 1e7, (1 << 31) - 1


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Name the widest float type of the tensor's device."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def chunks(rows: int, row_numbers: int) -> Iterator[slice]:
    """Cut rows of ``row_numbers`` numbers each into runs that fit a cache."""
    if torch.compiler.is_compiling():  # the compiler fuses what chunks would keep in cache
        yield slice(0, rows)
        return
    step = max(1, _CHUNK_NUMBERS // max(1, row_numbers))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def steps(values: Float[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """Round to whole steps of 1e-7, so that numbers which differ by float error alone are equal; +-214 at most."""
    return torch.round(values.to(wide_dtype(values)) * _GRID).clamp(-_MOST, _MOST).long()


def key_of(values: Float[Tensor, "rows"], tie: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """Make one whole number of a value, rounded to 1e-7, and of a number below 2^31 that decides between equal ones."""
    return (steps(values) << 31) + tie
