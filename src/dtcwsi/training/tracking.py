"""Curves of every fold in TensorBoard, Weights & Biases or MLflow, by Lightning's loggers."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dtcwsi.errors import OptionError
from dtcwsi.options import one_of
from dtcwsi.training.telling import TrainingEvent

__all__ = ["TRACKERS", "Tracking"]

TRACKERS = ("tensorboard", "wandb", "mlflow")
_NOT_CURVES = ("epoch", "step", "chosen")
_MLFLOW_WAITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""By itself it asks a server that is away for minutes before it says so."""


class Tracking:
    """Hands the epochs of a training's folds to trackers, a run of theirs a fold; ``history.csv`` is there anyway.

    ``out`` is the run folder. TensorBoard's files are in its ``tensorboard``, those of the others in its ``wandb`` and
    ``mlflow.db``, unless WANDB_* or MLFLOW_* in the environment say otherwise. A tracker that fails is told by
    ``complain``, and left out of the rest of the training, which goes on.
    Raises: OptionError if there is no such tracker, or it is not installed.
    """

    def __init__(self, names: Iterable[str], out: Path, complain: Callable[[str], None]) -> None:
        self._names = list(dict.fromkeys(one_of("track", name, TRACKERS) for name in names))
        for name in self._names:
            if find_spec(name) is None:
                raise OptionError(f"got track={name!r}, which is not installed; run: pip install {name}")
        self._out, self._complain = out, complain
        self._loggers: dict[str, Any] = {}

    def hear(self, event: TrainingEvent) -> None:
        """Take down what an event says of a fold."""
        if event.kind == "fold_begins" and event.fold is not None:
            self._each(lambda name: self._begin(name, event.fold))
        elif event.epoch is not None:
            row = {
                name: value
                for name, value in asdict(event.epoch).items()
                if name not in _NOT_CURVES and math.isfinite(value)
            }
            number = event.epoch.epoch
            self._each(lambda name: self._loggers[name].log_metrics(row, step=number))
        elif event.kind in ("fold_ends", "fold_failed"):
            self._each(lambda name: self._end(name, event))

    def _each(self, do: Callable[[str], None]) -> None:
        for name in list(self._names):
            try:
                do(name)
            except Exception as error:  # noqa: BLE001  # a service that is away must not cost the training
                self._names.remove(name)
                self._complain(f"{name} is left out from here on: {next(iter(f'{error}'.splitlines()), type(error))}")

    def _begin(self, name: str, fold: int | None) -> None:
        logger = self._loggers[name] = _MAKERS[name](self._out, f"fold{fold}")
        settings = json.loads((self._out / "settings.json").read_text(encoding="utf-8"))
        logger.log_hyperparams({key: value for key, value in settings.items() if key not in ("slides", "splits")})

    def _end(self, name: str, event: TrainingEvent) -> None:
        logger = self._loggers.pop(name)
        if event.kind == "fold_ends":
            record = json.loads((self._out / f"fold{event.fold}" / "fold.json").read_text(encoding="utf-8"))
            tested = {f"test_{metric}": value for metric, value in record["metrics"].items() if value is not None}
            logger.log_metrics(tested, step=record["best_epoch"])
        logger.finalize("success" if event.kind == "fold_ends" else "failed")
        if name == "wandb":
            logger.experiment.finish()


def _tensorboard(out: Path, fold: str) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    shutil.rmtree(out / "tensorboard" / fold, ignore_errors=True)  # of a fold that a kill cut off
    return TensorBoardLogger(out, name="tensorboard", version=fold, default_hp_metric=False)


def _wandb(out: Path, fold: str) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    project = os.environ.get("WANDB_PROJECT", "dtcwsi")
    return WandbLogger(name=f"{out.name}-{fold}", group=out.name, project=project, save_dir=out)


def _mlflow(out: Path, fold: str) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    for limit, value in _MLFLOW_WAITS.items():
        os.environ.setdefault(limit, value)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "dtcwsi")
    where = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{out.resolve() / 'mlflow.db'}")
    return MLFlowLogger(experiment_name=name, run_name=f"{out.name}-{fold}", tracking_uri=where)


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
