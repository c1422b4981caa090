"""The numbers of a whole run: what ``metrics.json`` holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.bags.cohort import Cohort
from dtcwsi.metrics import interval, metrics_for, over_folds
from dtcwsi.thresholds import chosen_thresholds
from dtcwsi.training.run_folder import RunFolder, plain

__all__ = ["run_metrics"]

_OF_FOLDS = (
    "metrics",
    "slides",
    "best_epoch",
    "epochs",
    "train_seconds",
    "epoch_seconds",
    "train_peak",
    "device",
    "search",
)


def run_metrics(
    cohort: Cohort, records: Mapping[int, Mapping[str, Any]], failed: Mapping[int, str], folder: RunFolder, *, seed: int
) -> dict[str, Any]:
    """Put the finished folds' records together.

    Of each metric: the folds' values, their mean and standard deviation, the value over all out-of-fold predictions
    pooled, and its 95 % interval by drawing patients; None where there is no such number. Tokens and seconds are means
    per tested slide: patches in, tokens out, patches merged into tokens of several and pruned; seconds of each step.
    ``versions`` are those that trained the folds. Of two classes also the `thresholds` that all out-of-fold predictions
    choose, for other cohorts to keep.
    """
    done = [records[fold] for fold in sorted(records)]
    told = {
        "model": folder.settings["model"],
        "options": folder.settings["options"],
        "classes": list(cohort.class_names),
        "n_slides": len(cohort.slides),
        "n_patients": len(set(cohort.patients)),
        "n_folds": len(records) + len(failed),
        "metrics": _metrics(cohort, done, seed),
        **({"thresholds": chosen_thresholds(*_pooled(cohort, done))} if done and len(cohort.class_names) == 2 else {}),
        "tokens": _tokens(done),
        "seconds": _seconds(done),
        "folds": {
            str(fold): {key: records[fold][key] for key in _OF_FOLDS if key in records[fold]}
            for fold in sorted(records)
        },
        "failed_folds": {str(fold): reason for fold, reason in failed.items()},
        "left_out": {
            "no_tissue": list(cohort.no_tissue),
            "without_features": list(cohort.without_features),
            "without_label": list(cohort.without_label),
            "refused": cohort.refused,
        },
        "seed": seed,
        "settings_digest": folder.digest,
        "versions": folder.versions(records),
    }
    content: dict[str, Any] = plain(told)
    return content


def _metrics(cohort: Cohort, done: list[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Score the folds' predictions, which say all, whatever metrics there were when they were written."""
    if not done:
        return {}
    patient_of = {slide.slide_id: slide.patient_id for slide in cohort.slides}
    patients = [patient_of[row["slide_id"]] for record in done for row in record["predictions"]]
    each = [_pooled(cohort, [record]) for record in done]
    labels, probabilities = _pooled(cohort, done)
    told = {}
    for name, metric in metrics_for(cohort.class_names).items():
        values = [metric(*fold) for fold in each]
        mean, std = over_folds(values)
        low, high = interval(metric, labels, probabilities, patients, seed=seed)
        told[name] = {
            "mean": mean,
            "std": std,
            "folds": values,
            "pooled": metric(labels, probabilities),
            "interval_95": [low, high],
        }
    return told


def _pooled(cohort: Cohort, done: list[Mapping[str, Any]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give class numbers and probabilities of all slides that folds tested."""
    numbers = {name: number for number, name in enumerate(cohort.class_names)}
    rows = [row for record in done for row in record["predictions"]]
    labels = np.array([numbers[row["label"]] for row in rows], dtype=np.int64)
    return labels, np.array([row["probabilities"] for row in rows], dtype=np.float64)


def _tokens(done: list[Mapping[str, Any]]) -> dict[str, Any]:
    if not done:
        return {}
    names = ("tokens_in", "tokens_out", "merged", "pruned")
    counts = {
        name: np.array([count for record in done for count in record[name]])
        for name in names
        if all(name in record for record in done)  # folds of an earlier version lack the last two
    }
    tokens_in, tokens_out = counts["tokens_in"], counts["tokens_out"]
    return {
        "in": float(tokens_in.mean()),
        "out": float(tokens_out.mean()),
        "kept_share": float(tokens_out.sum() / tokens_in.sum()),
        "kept_share_by_fold": [sum(record["tokens_out"]) / sum(record["tokens_in"]) for record in done],
        **{name: float(counts[name].mean()) for name in ("merged", "pruned") if name in counts},
        "in_range": [int(tokens_in.min()), int(tokens_in.max())],
        "out_range": [int(tokens_out.min()), int(tokens_out.max())],
    }


def _seconds(done: list[Mapping[str, Any]]) -> dict[str, Any]:
    slides = sum(record["slides"]["test"] for record in done)
    if not slides:
        return {}
    per_slide = {
        step: sum(record[f"{step}_seconds"] for record in done) / slides for step in ("read", "compress", "aggregate")
    }
    by_fold = [(record["compress_seconds"] + record["aggregate_seconds"]) / record["slides"]["test"] for record in done]
    train = float(np.mean([record["train_seconds"] for record in done]))
    return {**per_slide, "model_by_fold": by_fold, "train_per_fold": train}
