"""Sums over the processes that train one model together; of one process alone, its own."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import distributed, nn

__all__ = ["add_gradients", "added"]


def added(values: Sequence[float | int]) -> list[float]:
    """Add up all processes' values, place by place."""
    if not distributed.is_initialized():
        return [float(value) for value in values]
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    joined = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(joined)
    return cast("list[float]", joined.tolist())


def add_gradients(weights: Sequence[nn.Parameter]) -> None:
    """Add up all processes' gradients; a weight of which none has one keeps none."""
    if not distributed.is_initialized():
        return
    there = torch.tensor([weight.grad is not None for weight in weights], device=weights[0].device)
    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    joined = torch.cat([there.to(grads[0].dtype), *(grad.flatten() for grad in grads)])
    distributed.all_reduce(joined)
    parts = torch.split(joined[len(weights) :], [weight.numel() for weight in weights])
    for weight, told, part in zip(weights, joined[: len(weights)].tolist(), parts, strict=True):
        weight.grad = part.view_as(weight).to(weight.dtype) if told else None
