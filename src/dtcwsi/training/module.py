"""One model's optimisation: exact accumulation, progress by steps, the best checkpoint of the second half."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from dtcwsi.classifier import Classifier
from dtcwsi.compressors.base import CURRICULUM_SHARE
from dtcwsi.errors import DtcwsiError
from dtcwsi.metrics import score
from dtcwsi.nn.everywhere import add_gradients, added
from dtcwsi.recipe import TrainingRecipe, balanced_weights
from dtcwsi.training.data import SlideBatch, SlideFeatures
from dtcwsi.training.devices import from_first, without_joining
from dtcwsi.training.evaluation import evaluate

__all__ = ["Epoch", "Recipe", "TrainingModule"]


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingRecipe):
    """A recipe fitted to a fold: every number is known, and ``max_tokens`` patches at most are computed at once.

    ``pretrain_steps`` of the method's self-supervised phase come before.
    """

    batch_size: int = field()  # required, where the parent has a default
    steps_per_epoch: int
    max_tokens: int
    pretrain_steps: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch's row of ``history.csv``; ``chosen`` marks epochs that were the best so far and could be chosen."""

    epoch: int
    step: int
    progress: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_auc: float
    train_tokens_in: float
    train_tokens_out: float
    chosen: bool


@dataclass
class _Running:
    """Sums over the slides of the epoch under way."""

    slides: int = 0
    loss: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0

    def everywhere(self) -> "_Running":
        """Add up the sums of all devices."""
        slides, loss, tokens_in, tokens_out = added(astuple(self))
        return _Running(int(slides), loss, int(tokens_in), int(tokens_out))


@dataclass
class _Best:
    loss: float = math.inf
    epoch: int = -1
    state: dict[str, Tensor] = field(default_factory=dict)


class TrainingModule(LightningModule):  # type: ignore[misc]  # lightning has no stubs here
    """Train a classifier and keep its best state by validation loss.

    Validation parts are small: their AUC is often 1 for many epochs, so the loss decides. Only epochs after the
    compression curriculum are eligible; plain models wait as long, so that all are chosen from the same epochs.
    """

    def __init__(
        self,
        model: Classifier,
        recipe: Recipe,
        features: SlideFeatures,
        val: Sequence[int],
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.recipe = model, recipe
        self.history: list[Epoch] = []
        self.epoch_seconds: list[float] = []
        self._began = 0.0
        self._features, self._val, self._on_epoch = features, list(val), on_epoch
        self._running, self._best, self._steps = _Running(), _Best(), 0
        balanced = recipe.class_weights == "balanced"
        model.drawn_evenly = recipe.class_weights == "sampled"
        self._class_weights = torch.tensor(balanced_weights(model.class_shares)) if balanced else None

    @property
    def progress(self) -> float:
        """The share of the planned optimiser steps that are done."""
        return min(1.0, self._steps / max(1, self.recipe.epochs * self.recipe.steps_per_epoch))

    @property
    def _curriculum_end(self) -> float:
        return max(CURRICULUM_SHARE, self.model.compressor.curriculum)

    @property
    def best_epoch(self) -> int:
        """The epoch of the best state, counted from 1."""
        return self._best.epoch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the recipe's optimiser."""
        return self.recipe.optimizer_of(self.model.parameters())

    def training_step(self, batch: SlideBatch, batch_index: int) -> None:  # noqa: ARG002
        """Add one pass's share of the batch's gradient; step when the batch ends."""
        self.model.set_progress(self.progress)
        if batch.part.share:
            self._add_share(batch)
        if batch.part.ends_batch:
            optimizer = self.optimizers()
            add_gradients([weight for group in optimizer.param_groups for weight in group["params"]])
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate_at(self.progress)
            optimizer.step()
            optimizer.zero_grad()
            self._steps += 1

    def _add_share(self, batch: SlideBatch) -> None:
        out = self.model(batch.bags)
        labels = _labels(batch)
        weights = None if self._class_weights is None else self._class_weights.to(out.logits)[labels]
        loss = self.model.loss(out, labels, weights=weights)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DtcwsiError(f"the loss became {value} at step {self._steps}; train with a lower learning rate")
        with without_joining(self.trainer):
            self.manual_backward(loss * batch.part.share)
        self._count(batch, value, out.tokens_in, out.tokens_out)

    def on_train_epoch_start(self) -> None:
        """Look at the clock: `epoch_seconds` are of training steps alone."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        """Score the validation part, keep the best state, stop when patience is out; the first process does it."""
        self.epoch_seconds.append(time.perf_counter() - self._began)
        self._running = self._running.everywhere()
        ended = self.trainer.is_global_zero and self._judged()
        self._running = _Running()
        if from_first(self.trainer, ended):
            self.trainer.should_stop = True

    def _judged(self) -> bool:
        """Add the epoch's row.  Returns: whether patience is out."""
        row = self._row()
        if row.chosen:
            state = {key: tensor.detach().cpu().clone() for key, tensor in self.model.state_dict().items()}
            self._best = _Best(row.val_loss, row.epoch, state)
        self.history.append(row)
        if self._on_epoch is not None:
            self._on_epoch(row)
        return bool(self._best.state) and row.epoch - self._best.epoch >= self.recipe.patience

    def transfer_batch_to_device(self, batch: SlideBatch, device: torch.device, dataloader_idx: int) -> SlideBatch:  # noqa: ARG002
        """Move a batch's tensors."""
        return SlideBatch(batch.bags.to(device), batch.part)

    def best_model(self) -> Classifier:
        """Give the model its best state, on the CPU and in evaluation mode.

        Raises: DtcwsiError if no epoch had a finite validation loss.
        """
        if not self._best.state:
            raise DtcwsiError("the validation loss was never finite; train with a lower learning rate")
        model = self.model.cpu()
        model.load_state_dict(self._best.state)
        return model.eval()

    def _row(self) -> Epoch:
        how: dict[str, Any] = {"max_tokens": self.recipe.max_tokens, "device": self.device}
        seen = evaluate(self.model, self._features, self._val, class_weights=self._class_weights, **how)
        values = score(seen.labels, seen.probabilities)
        running, slides = self._running, max(1, self._running.slides)
        return Epoch(
            epoch=len(self.history) + 1,
            step=self._steps,
            progress=self.progress,
            train_loss=running.loss / slides,
            val_loss=seen.loss,
            val_accuracy=values["accuracy"],
            val_balanced_accuracy=values["balanced_accuracy"],
            val_auc=values["auc"],
            train_tokens_in=running.tokens_in / slides,
            train_tokens_out=running.tokens_out / slides,
            chosen=self.progress >= self._curriculum_end and seen.loss < self._best.loss,
        )

    def _count(self, batch: SlideBatch, loss: float, tokens_in: Tensor, tokens_out: Tensor) -> None:
        running, slides = self._running, batch.bags.n_bags
        running.slides += slides
        running.loss += loss * slides
        running.tokens_in += int(tokens_in.sum())
        running.tokens_out += int(tokens_out.sum())


def _labels(batch: SlideBatch) -> Any:
    if batch.bags.labels is None:
        raise DtcwsiError("a training batch has no labels; load slides with their class numbers")
    return batch.bags.labels
