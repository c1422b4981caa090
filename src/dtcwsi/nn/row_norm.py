"""Batch normalisation over rows that tells what it saw, for passes that are computed twice."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm

__all__ = ["RowNorm"]


class RowNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` whose running statistics change only when `remember` is called.

    The forward pass has no effects, so that checkpointing may repeat it. A single row has no variance: it is normalised
    by the ``running`` statistics in training as well.
    """

    @property
    def running(self) -> Float[Tensor, "2 width"]:
        """Copy the running mean and variance."""
        return torch.stack([self.get_buffer("running_mean"), self.get_buffer("running_var")])

    def forward(  # type: ignore[override]  # two results for one
        self, rows: Float[Tensor, "rows width"], running: Float[Tensor, "2 width"]
    ) -> tuple[Float[Tensor, "rows width"], Float[Tensor, "2 width"]]:
        """Normalise rows by their own statistics in training, else by ``running``.

        Returns: the rows, and the mean and unbiased variance to remember.
        """
        learns = self.training and len(rows) > 1
        mean, variance = running[0].clone(), running[1].clone()
        made = batch_norm(rows.to(running.dtype), mean, variance, self.weight, self.bias, learns, 1.0, self.eps)
        return made, torch.stack([mean, variance])

    def remember(self, seen: Float[Tensor, "2 width"]) -> None:
        """Let the running statistics follow those of a pass."""
        share = 0.1 if self.momentum is None else self.momentum
        self.get_buffer("running_mean").lerp_(seen[0], share)
        self.get_buffer("running_var").lerp_(seen[1], share)
        self.get_buffer("num_batches_tracked").add_(1)
