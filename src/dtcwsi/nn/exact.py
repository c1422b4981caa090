"""Arithmetic and comparisons that the rest of a batch does not change."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dtcwsi.nn.chunks import chunks

__all__ = ["key_of", "pair_dots", "steps", "wide_dtype"]

_GRID, _MOST = 1e7, (1 << 31) - 1


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Name the widest float type of the tensor's device."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def pair_dots(
    rows: Float[Tensor, "rows dim"],
    others: Float[Tensor, "others dim"],
    one: Int[Tensor, "pairs"],
    other: Int[Tensor, "pairs"],
) -> Float[Tensor, "pairs"]:
    """Multiply rows ``one`` of a matrix by rows ``other`` of another, each pair by itself, in float32.

    On the CPU by torch's sampled product, which needs no copies of the rows.
    """
    both = rows.dtype == others.dtype == torch.float32
    if rows.device.type == "cpu" and both and not torch.compiler.is_compiling():
        return _sampled_dots(rows.detach(), others.detach(), one, other)
    dots = torch.empty(len(one), device=rows.device)
    for part in chunks(len(one), 2 * rows.shape[1], rows.device):
        dots[part] = (rows[one[part]].float() * others[other[part]].float()).sum(dim=1)
    return dots


def _sampled_dots(rows: Tensor, others: Tensor, one: Tensor, other: Tensor) -> Tensor:
    order = torch.sort(one).indices
    starts = torch.cat([one.new_zeros(1), torch.bincount(one, minlength=len(rows)).cumsum(0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        size, nothing = (len(rows), len(others)), rows.new_zeros(len(one))
        asked = torch.sparse_csr_tensor(starts, other.index_select(0, order), nothing, size, check_invariants=False)
    dots = torch.sparse.sampled_addmm(asked, rows, others.T, beta=0).values()
    return torch.empty_like(dots).index_copy_(0, order, dots)


def steps(values: Float[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """Round to whole steps of 1e-7, so that numbers which differ by float error alone are equal; +-214 at most."""
    return torch.round(values.to(wide_dtype(values)) * _GRID).clamp(-_MOST, _MOST).long()


def key_of(values: Float[Tensor, "rows"], tie: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """Make one whole number of a value, rounded to 1e-7, and of a number below 2^31 that decides between equal ones."""
    return (steps(values) << 31) + tie
