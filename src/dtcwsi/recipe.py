"""How a model is trained: the optimiser, its learning rate over time, how long, and when to stop."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dtcwsi.errors import OptionError
from dtcwsi.options import check_number, check_share, check_whole_number, one_of

__all__ = ["CLASS_WEIGHTS", "COMMON", "OPTIMIZERS", "SCHEDULES", "TrainingRecipe", "balanced_weights"]

OPTIMIZERS = ("adam", "adamw", "lookahead-radam")
SCHEDULES = ("constant", "cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced", "sampled")


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """A protocol of training; the defaults are the common one, the same for all models.

    ``batch_size`` slides make an optimiser step, None leaves it to the cohort's size. ``optimizer`` is one of
    `OPTIMIZERS`, with rate ``lr``, ``betas`` and ``weight_decay``, of matrices alone unless ``decay_vectors`` (biases
    and what scales norms). ``schedule`` is one of `SCHEDULES`: the rate rises linearly from 0 over ``warm_up_epochs``,
    then stays or falls to ``lr_end`` by the last of the ``epochs``.
    ``patience`` counts epochs without a better validation loss, from the end of the compression curriculum on, of plain
    models too. ``class_weights`` is one of `CLASS_WEIGHTS`: balanced weighs every slide, in training and for the
    validation loss, by `balanced_weights` of its class; sampled draws as many slides an epoch as there are, with
    replacement, so that classes come equally often, and leaves the losses as they are. ``source`` names where the
    protocol was published.
    Raises: OptionError if a value is out of range.
    """

    epochs: int = 40
    batch_size: int | None = None
    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    decay_vectors: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    lr_end: float = 0.0
    warm_up_epochs: float = 0.0
    patience: int = 10
    class_weights: str = "none"
    source: str = ""

    def __post_init__(self) -> None:
        check_whole_number("epochs", self.epochs)
        if self.batch_size is not None:
            check_whole_number("batch_size", self.batch_size)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        check_number("lr", self.lr, lambda rate: 0 < rate < math.inf, "a number above 0")
        check_number("weight_decay", self.weight_decay, lambda decay: 0 <= decay < math.inf, "a number from 0 on")
        for beta in self.betas:
            check_share("betas", beta)
        one_of("schedule", self.schedule, SCHEDULES)
        check_number("lr_end", self.lr_end, lambda rate: rate >= 0, "a number from 0 on")
        check_number("warm_up_epochs", self.warm_up_epochs, lambda epochs: epochs >= 0, "a number from 0 on")
        check_whole_number("patience", self.patience)
        one_of("class_weights", self.class_weights, CLASS_WEIGHTS)

    def rate_at(self, progress: float) -> float:
        """Give the learning rate once a share ``progress``, 0 to 1, of the planned steps is done."""
        warm = min(1.0, self.warm_up_epochs / self.epochs)
        if progress < warm:
            return self.lr * progress / warm
        if self.schedule == "constant":
            return self.lr
        done = (progress - warm) / (1 - warm) if warm < 1 else 1.0
        left = 1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.lr_end + (self.lr - self.lr_end) * left

    def optimizer_of(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimiser; its rate is for the caller to set from `rate_at`.

        Raises: OptionError if it is lookahead-radam and timm is not installed.
        """
        given: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "betas": self.betas}
        groups = self._groups(list(parameters))
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, **given)
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, **given)
        try:
            from timm.optim import Lookahead  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise OptionError(
                "lookahead-radam comes from timm, which is not installed; run: pip install 'dtcwsi[encoders]'"
            ) from error
        ahead: torch.optim.Optimizer = Lookahead(torch.optim.RAdam(groups, **given, decoupled_weight_decay=True))
        return ahead

    def _groups(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        """Part what decays from what does not."""
        if self.decay_vectors:
            return [{"params": parameters}]
        vectors, matrices = ([one for one in parameters if (one.ndim < 2) == few] for few in (True, False))
        return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def balanced_weights(shares: Sequence[float]) -> list[float]:
    """Weigh classes by their ``shares`` of the slides so that all count alike and a slide's mean weight is 1.

    A class without slides weighs 0.  Source: King and Zeng 2001, "Logistic Regression in Rare Events Data".
    """
    there = sum(share > 0 for share in shares)
    return [1 / (there * share) if share > 0 else 0.0 for share in shares]


COMMON = TrainingRecipe()
