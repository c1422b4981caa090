"""A run folder read back for the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.catalog import model_options
from dtcwsi.errors import UnknownNameError, UsageError
from dtcwsi.store.checksums import read_checksums
from dtcwsi.store.tables import read_rows

__all__ = ["FURTHER_METRICS", "METRICS", "Fold", "Metric", "RunSummary", "read_run"]

METRICS = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "auc": "AUC"}
FURTHER_METRICS = {
    "average_precision": "Average precision",
    "f1": "F1",
    "kappa": "Kappa",
    "quadratic_kappa": "Quadratic kappa",
    "brier": "Brier score",
    "calibration_error": "Calibration error (ECE)",
}
_RECIPE = ("epochs", "lr", "weight_decay", "patience", "batch_size", "class_weights")


@dataclass(frozen=True)
class Metric:
    """One metric: mean and std over folds, the folds' values, the pooled value and its 95 % interval; None: unknown."""

    mean: float | None
    std: float | None
    pooled: float | None
    low: float | None
    high: float | None
    folds: tuple[float | None, ...]


@dataclass(frozen=True)
class Fold:
    """One fold: its number, slides tested, metrics by name, epochs trained, the epoch chosen, seconds of training.

    ``tokens_out`` is the mean a slide tested; ``peak_bytes`` and ``gpu_peak_bytes`` are the memory of training, None
    where it is not known. ``gone`` says that its folder, and so its model, is not there any more.
    """

    number: int
    tested: int | None
    metrics: Mapping[str, float | None]
    epochs: int | None
    best_epoch: int | None
    train_seconds: float
    tokens_out: float | None
    peak_bytes: int | None
    gpu_peak_bytes: int | None
    gone: bool = False


@dataclass(frozen=True)
class RunSummary:
    """What a run folder says.

    ``labels`` (slides,) class numbers and ``probabilities`` (slides, classes) are out of fold, ``patients`` and
    ``tested_in``, the fold that predicted, in the same order. ``tokens_in`` and ``tokens_out`` are means a slide;
    ``predict_seconds`` is for all slides together. ``left_out`` is (slide id, reason). ``checksums`` are those of the
    slides' files where known.
    """

    folder: Path
    model: str
    options: Mapping[str, Any]
    recipe: Mapping[str, Any]
    classes: tuple[str, ...]
    n_slides: int
    n_patients: int
    seed: int | None
    versions: Mapping[str, str]
    metrics: Mapping[str, Metric]
    folds: tuple[Fold, ...]
    folds_by: str
    failed_folds: Mapping[str, str]
    tokens_in: float | None
    tokens_out: float | None
    kept_share: float | None
    merged: float | None
    pruned: float | None
    predict_seconds: float
    slide_ids: tuple[str, ...]
    patients: tuple[str, ...]
    tested_in: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    left_out: tuple[tuple[str, str], ...]
    checksums: Mapping[str, str]

    @property
    def train_seconds(self) -> float:
        """Seconds that training all folds took."""
        return sum(fold.train_seconds for fold in self.folds)


def read_run(folder: Path) -> RunSummary:
    """Read a run's metrics.json, settings.json, predictions.csv and folds.csv.

    Raises: UsageError if the folder is no finished run.
    """
    if not (folder / "metrics.json").is_file():
        raise UsageError(f"{folder} holds no metrics.json; expected the folder of a finished run of `dtcwsi train`")
    found = _read_json(folder / "metrics.json")
    settings = _read_json(folder / "settings.json") if (folder / "settings.json").exists() else {}
    try:
        return _summary(folder, found, settings)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{folder} holds a run that cannot be read ({type(error).__name__}: {error}); expected one of this version "
            "of dtcwsi: train it again"
        ) from error


def _summary(folder: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> RunSummary:
    tokens, seconds = found.get("tokens") or {}, found.get("seconds") or {}
    classes = tuple(str(name) for name in found["classes"])
    patient_of = {row["slide_id"]: row["patient_id"] for row in read_rows(folder / "folds.csv")}
    rows = read_rows(folder / "predictions.csv")
    per_slide = sum(seconds.get(step) or 0.0 for step in ("compress", "aggregate"))
    return RunSummary(
        folder=folder,
        model=str(found["model"]),
        options=_chosen(str(found["model"]), found.get("options") or {}),
        recipe={name: settings[name] for name in _RECIPE if settings.get(name) is not None},
        classes=classes,
        n_slides=int(found["n_slides"]),
        n_patients=int(found["n_patients"]),
        seed=found.get("seed"),
        versions=found.get("versions") or {},
        metrics={name: _metric(value) for name, value in (found.get("metrics") or {}).items()},
        folds=tuple(
            _fold(folder, int(number), fold)
            for number, fold in sorted((found.get("folds") or {}).items(), key=_by_number)
        ),
        folds_by=_folds_by(settings),
        failed_folds=found.get("failed_folds") or {},
        tokens_in=tokens.get("in"),
        tokens_out=tokens.get("out"),
        kept_share=tokens.get("kept_share"),
        merged=tokens.get("merged"),
        pruned=tokens.get("pruned"),
        predict_seconds=per_slide * len(rows),
        slide_ids=tuple(row["slide_id"] for row in rows),
        patients=tuple(patient_of.get(row["slide_id"], row["slide_id"]) for row in rows),
        tested_in=tuple(row["fold"] for row in rows),
        labels=np.array([classes.index(row["label"]) for row in rows], np.int64),
        probabilities=np.array([[float(row[f"prob_{name}"]) for name in classes] for row in rows]).reshape(
            len(rows), len(classes)
        ),
        left_out=tuple(_left_out(found.get("left_out") or {})),
        checksums=read_checksums(folder),
    )


def _folds_by(settings: Mapping[str, Any]) -> str:
    if "splits" in settings:
        return "named by split files, no patient in two parts"
    return f"grouped by {settings.get('group', 'patient')}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read; expected the folder of a finished run: run train again") from error
    return content


def _metric(value: Mapping[str, Any]) -> Metric:
    low, high = value.get("interval_95") or (None, None)
    return Metric(value.get("mean"), value.get("std"), value.get("pooled"), low, high, tuple(value.get("folds") or ()))


def _fold(folder: Path, number: int, value: Mapping[str, Any]) -> Fold:
    record = folder / f"fold{number}" / "fold.json"
    tokens = (_read_json(record) if record.is_file() else {}).get("tokens_out")
    peak = value.get("train_peak") or {}
    return Fold(
        number=number,
        tested=(value.get("slides") or {}).get("test"),
        metrics=value.get("metrics") or {},
        epochs=value.get("epochs"),
        best_epoch=value.get("best_epoch"),
        train_seconds=float(value.get("train_seconds") or 0.0),
        tokens_out=float(np.mean(tokens)) if tokens else None,
        peak_bytes=peak.get("process_bytes"),
        gpu_peak_bytes=peak.get("gpu_bytes"),
        gone=not record.parent.is_dir(),
    )


def _by_number(item: tuple[str, Any]) -> int:
    return int(item[0])


def _left_out(found: Mapping[str, Sequence[str] | Mapping[str, str]]) -> list[tuple[str, str]]:
    words = {
        "no_tissue": "no tissue",
        "without_features": "no feature file",
        "without_label": "no row in the labels table",
    }
    listed = [(slide, reason) for kind, reason in words.items() for slide in found.get(kind, ())]
    refused = found.get("refused") or {}
    return listed + (list(refused.items()) if isinstance(refused, Mapping) else [])


def _chosen(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the options that are not the defaults of this version; all where it does not know the model."""
    try:
        defaults = model_options(model)
    except UnknownNameError:
        return dict(options)
    return {name: value for name, value in options.items() if name not in defaults or value != defaults[name]}
