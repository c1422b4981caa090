"""Where the lines and dots of the report's drawings go; the templates draw them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.report.curves import CalibrationBin, Curve, calibration_of, precision_recall_of, roc_of
from dtcwsi.explain.report.runs import RunSummary
from dtcwsi.metrics import METRICS

__all__ = [
    "SQUARE_PX",
    "Calibration",
    "ForestRow",
    "Line",
    "TokenDots",
    "TokenPlot",
    "calibrations",
    "forest_rows",
    "precision_recall_lines",
    "roc_lines",
    "token_plot",
]

SQUARE_PX = 300


@dataclass(frozen=True)
class Line:
    """One model's curve as SVG ``points`` in a square of 300 x 300, and the area that it stands for."""

    name: str
    points: str
    area: float


@dataclass(frozen=True)
class Calibration:
    """One model's bins, its Brier score and its expected calibration error."""

    name: str
    bins: tuple[CalibrationBin, ...]
    brier: float
    error: float


@dataclass(frozen=True)
class ForestRow:
    """One model's AUC in percent of the axis from 0 to 1: the pooled value, its interval and the folds' values."""

    name: str
    pooled: float
    low: float
    high: float
    folds: tuple[float, ...]


@dataclass(frozen=True)
class TokenDots:
    """One model's (tokens, AUC), pooled, and those of its folds."""

    name: str
    pooled: tuple[float, float]
    folds: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TokenPlot:
    """AUC over tokens: the dots, and the axes' ticks, of which the first and last are the ends."""

    dots: tuple[TokenDots, ...]
    token_ticks: tuple[float, ...]
    auc_ticks: tuple[float, ...]


def roc_lines(runs: Mapping[str, RunSummary]) -> list[Line]:
    """Draw each run's pooled out-of-fold ROC curve, where there is one."""
    return _lines(runs, roc_of)


def precision_recall_lines(runs: Mapping[str, RunSummary]) -> list[Line]:
    """Draw each run's pooled out-of-fold precision over recall, where there is one."""
    return _lines(runs, precision_recall_of)


def calibrations(runs: Mapping[str, RunSummary]) -> list[Calibration]:
    """Bin each run's out-of-fold probabilities."""
    return [
        Calibration(
            name,
            tuple(calibration_of(run.labels, run.probabilities)),
            METRICS["brier"](run.labels, run.probabilities),
            METRICS["calibration_error"](run.labels, run.probabilities),
        )
        for name, run in runs.items()
        if len(run.labels)
    ]


def forest_rows(runs: Mapping[str, RunSummary]) -> list[ForestRow]:
    """Place each run's AUC with its interval and the values of its folds."""
    rows = []
    for name, run in runs.items():
        auc = run.metrics.get("auc")
        if auc is not None and None not in (auc.pooled, auc.low, auc.high):
            pooled, low, high = (100 * float(value or 0) for value in (auc.pooled, auc.low, auc.high))
            rows.append(ForestRow(name, pooled, low, high, tuple(100 * fold for fold in auc.folds if fold is not None)))
    return rows


def token_plot(runs: Mapping[str, RunSummary]) -> TokenPlot | None:
    """Set each run's AUC against the tokens that its aggregator sees a slide.  Returns: None if no run has both."""
    dots = []
    for name, run in runs.items():
        auc = run.metrics.get("auc")
        if auc is None or auc.pooled is None or not run.tokens_out:
            continue
        folds = [(fold.tokens_out, fold.metrics.get("auc")) for fold in run.folds]
        known = tuple((tokens, value) for tokens, value in folds if tokens is not None and value is not None)
        dots.append(TokenDots(name, (run.tokens_out, auc.pooled), known))
    if not dots:
        return None
    each = [point for one in dots for point in (one.pooled, *one.folds)]
    most, least = max(tokens for tokens, _ in each), min(value for _, value in each)
    return TokenPlot(tuple(dots), _ticks_to(most), (0.5, 0.6, 0.7, 0.8, 0.9, 1.0) if least >= 0.5 else _FIFTHS)


_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _ticks_to(most: float) -> tuple[float, ...]:
    """Cut an axis from 0 into four or five steps of a round length that reach over ``most``."""
    power = 10.0 ** np.floor(np.log10(most / 4))
    step = next(round_ * power for round_ in (1, 2, 2.5, 5, 10) if round_ * power * 5 >= most)
    return tuple(float(tick) for tick in step * np.arange(int(np.ceil(most / step)) + 1))


def _lines(
    runs: Mapping[str, RunSummary], curve_of: Callable[[NDArray[np.int64], NDArray[np.float64]], Curve | None]
) -> list[Line]:
    lines = []
    for name, run in runs.items():
        curve = curve_of(run.labels, run.probabilities) if len(run.labels) else None
        if curve is not None:
            places = zip(curve.across.tolist(), curve.up.tolist(), strict=True)
            points = " ".join(f"{SQUARE_PX * across:.1f},{SQUARE_PX * (1 - up):.1f}" for across, up in places)
            lines.append(Line(name, points, curve.area))
    return lines
