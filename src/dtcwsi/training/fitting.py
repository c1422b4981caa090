"""Running Lightning for one model without its surroundings: no logs, no bars, no files of its own."""

import logging
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from dtcwsi.bags.sampler import PassSampler
from dtcwsi.errors import OptionError
from dtcwsi.training.data import SlideFeatures
from dtcwsi.training.devices import ALONE, Place
from dtcwsi.training.module import TrainingModule

__all__ = ["device_of", "fit"]

_DEVICES = ("auto", "cpu", "cuda", "mps")


def device_of(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` into a device; ``auto`` is a GPU if there is one.

    Raises: OptionError if the device is unknown or not there.
    """
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (":" in name and not (kind == "cuda" and index.isdecimal())):
        raise OptionError(f"got device {name!r}; expected one of {', '.join(_DEVICES)}, or such as cuda:1")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(kind, True) or int(index or 0) >= max(1, torch.cuda.device_count()):
        raise OptionError(f"device {name!r} is not available on this machine; use 'auto' or 'cpu'")
    return torch.device(name)


def fit(
    module: TrainingModule,
    features: SlideFeatures,
    slides: Sequence[int],
    *,
    seed: int,
    device: str,
    place: Place = ALONE,
) -> None:
    """Train until the epochs or the patience are used up, on this process's part of every batch.

    Raises: OptionError if a batch of a model that needs whole batches might not fit into a pass; KeyboardInterrupt on
    Ctrl-C; SIGTERM goes to the handler that was there before.
    """
    recipe, labels = module.recipe, [features.labels[slide] for slide in slides]
    counts = Counter(labels)
    sampler = PassSampler(
        slides,
        features.sizes,
        batch_size=recipe.batch_size,
        max_tokens=recipe.max_tokens,
        seed=seed,
        weights=[1 / counts[label] for label in labels] if recipe.class_weights == "sampled" else None,
        whole_batches=module.model.whole_batches,
        part=(place.rank, place.world),
    )
    loader = DataLoader(features, sampler=sampler, batch_size=None)
    with _quiet(), _own_signals():
        trainer = Trainer(
            accelerator=device_of(device).type,
            **place.trainer_options(device_of(device)),
            max_epochs=recipe.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[_PlainSigterm(signal.getsignal(signal.SIGTERM))] if place.world > 1 else [],
        )
        trainer.fit(module, loader)


class _PlainSigterm(Callback):  # type: ignore[misc]  # lightning has no stubs here
    """Give SIGTERM its handler back while several processes train: Lightning's waits for all of them."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Undo what Lightning has set."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about the machine and about loading in the main process, which is meant."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            warnings.filterwarnings("ignore", message=".*MPS available but not used.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end training as they end any program: Lightning makes them exit statuses 1 and 0."""
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if in_main else {}
    try:
        yield
    except SIGTERMException:
        _restore(before)
        signal.raise_signal(signal.SIGTERM)
        raise
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)
