"""Where the lines and dots of the report's drawings go; the template draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtcwsi.explain.report.curves import roc_of
from dtcwsi.explain.report.runs import RunSummary

__all__ = ["ForestRow", "RocLine", "Stage", "forest_rows", "roc_lines", "stages"]

_ROC_PX = 300


@dataclass(frozen=True)
class RocLine:
    """One model's curve as SVG ``points`` in a square of 300 x 300, and its pooled AUC."""

    name: str
    points: str
    auc: float


@dataclass(frozen=True)
class ForestRow:
    """One model's AUC in percent of the axis from 0 to 1: the pooled value, its interval and the folds' values."""

    name: str
    pooled: float
    low: float
    high: float
    folds: tuple[float, ...]


@dataclass(frozen=True)
class Stage:
    """Seconds of one stage, and their percentage of the longest stage."""

    name: str
    seconds: float
    percent: float


def roc_lines(runs: Mapping[str, RunSummary]) -> list[RocLine]:
    """Draw each run's pooled out-of-fold ROC curve, where there is one."""
    lines = []
    for name, run in runs.items():
        curve = roc_of(run.labels, run.probabilities) if len(run.labels) else None
        if curve is not None:
            rates = zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
            points = " ".join(f"{_ROC_PX * across:.1f},{_ROC_PX * (1 - up):.1f}" for across, up in rates)
            lines.append(RocLine(name, points, curve.auc))
    return lines


def forest_rows(runs: Mapping[str, RunSummary]) -> list[ForestRow]:
    """Place each run's AUC with its interval and the values of its folds."""
    rows = []
    for name, run in runs.items():
        auc = run.metrics.get("auc")
        if auc is not None and None not in (auc.pooled, auc.low, auc.high):
            pooled, low, high = (100 * float(value or 0) for value in (auc.pooled, auc.low, auc.high))
            rows.append(ForestRow(name, pooled, low, high, tuple(100 * fold for fold in auc.folds if fold is not None)))
    return rows


def stages(
    extracted: Sequence[Mapping[str, str]], runs: Mapping[str, RunSummary], others: Mapping[str, float]
) -> list[Stage]:
    """Add up the seconds of each stage: tissue, read and encode over all slides, then each model's, then others'."""
    names = {"tissue": "find tissue", "read": "read patches", "encode": "encode patches"}
    seconds = {told: sum(float(row.get(f"seconds_{step}") or 0) for row in extracted) for step, told in names.items()}
    seconds = {name: value for name, value in seconds.items() if value} | {
        f"{verb} {name}": value
        for name, run in runs.items()
        for verb, value in (("train", run.train_seconds), ("predict with", run.predict_seconds))
        if value
    }
    seconds |= others
    longest = max(seconds.values(), default=1.0) or 1.0
    return [Stage(name, value, 100 * value / longest) for name, value in seconds.items()]
