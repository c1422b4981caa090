"""What was measured on slides as a table, and its means over the slides with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.faithfulness.curves import Curves
from dtcwsi.explain.faithfulness.maps import MAPS
from dtcwsi.explain.faithfulness.measure import Agreement, MapScores, SlideScores
from dtcwsi.metrics import patient_draws

__all__ = ["MEASURES", "RANDOM", "Estimate", "estimates", "rows_of"]

RANDOM = "random"

MEASURES: Mapping[str, str] = {
    "deletion": "area under the predicted class's probability as patches are taken away from the top; low is good",
    "insertion": "the same as patches are added from the top; high is good",
    "deletion_gain": "deletion of random orders minus the map's; above 0 the map finds what the decision rests on",
    "insertion_gain": "insertion of the map minus that of random orders; above 0 is good",
    "deletion_margin": "mean margin of the predicted class, in logits, as patches are taken away; low is good",
    "insertion_margin": "the same as patches are added; high is good",
    "deletion_margin_gain": "deletion_margin of random orders minus the map's",
    "insertion_margin_gain": "insertion_margin of the map minus that of random orders",
    "lesion_auroc": "area under the ROC curve for patches a quarter or more of which is lesion; 0.5 is chance",
    "dice_as_many": "Dice of as many patches from the top as are lesion",
    "dice_above_share": "Dice of the patches with more than an even share",
    "folds_spearman": "rank correlation with the maps of the run's other folds",
    "folds_top_tenth": "share of the top tenth of patches that is top in the other folds too; 0.1 is chance",
    "seeds_spearman": "rank correlation with the maps of other trainings",
    "seeds_top_tenth": "share of the top tenth of patches that is top in the other trainings too; 0.1 is chance",
    "redrawn_aggregator": "rank correlation with the map after the aggregator's weights are drawn anew",
    "redrawn_compressor": "the same for the compressor's weights",
    "redrawn_both": "the same for all weights; near 0 if the map is a work of training",
}
"""The columns of the table and what they mean; a cell is None where there is nothing to measure."""


@dataclass(frozen=True)
class Estimate:
    """A mean over ``slides`` slides and its 95 % interval; None where fewer than two patients are left to draw from."""

    mean: float
    low: float | None
    high: float | None
    slides: int


def rows_of(slide: SlideScores) -> dict[str, dict[str, float | None]]:
    """Lay a slide's scores out by map and measure; the row `RANDOM` is the floor of the curves."""
    floor = _areas(slide.random)
    rows = {name: _row(slide.maps[name], floor) for name in MAPS if name in slide.maps}
    return {**rows, RANDOM: {**dict.fromkeys(MEASURES), **floor}}


def estimates(
    slides: Sequence[SlideScores], patients: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Average every measure of every map over the slides, with the interval of drawing patients with replacement.

    ``patients`` (slides,). Measures that no slide has are left out.
    """
    tables = [rows_of(slide) for slide in slides]
    weights = np.concatenate(list(patient_draws(patients, draws, seed)))
    found: dict[str, dict[str, Estimate]] = {}
    for name in (*MAPS, RANDOM):
        rows = [table.get(name, {}) for table in tables]
        columns = {measure: np.array([_number(row.get(measure)) for row in rows]) for measure in MEASURES}
        means = {
            measure: _estimate(values, weights, patients)
            for measure, values in columns.items()
            if not np.isnan(values).all()
        }
        if means:
            found[name] = means
    return found


def _row(scores: MapScores, floor: Mapping[str, float]) -> dict[str, float | None]:
    own = _areas(scores.curves)
    lesion = scores.lesion
    row: dict[str, float | None] = {**dict.fromkeys(MEASURES), **own}
    for unit in ("", "_margin"):
        row[f"deletion{unit}_gain"] = floor[f"deletion{unit}"] - own[f"deletion{unit}"]
        row[f"insertion{unit}_gain"] = own[f"insertion{unit}"] - floor[f"insertion{unit}"]
    if lesion is not None:
        row |= {
            "lesion_auroc": lesion.auroc,
            "dice_as_many": lesion.dice_as_many,
            "dice_above_share": lesion.dice_above_share,
        }
    row |= _agreed("folds", scores.folds) | _agreed("seeds", scores.seeds)
    return row | {f"redrawn_{group}": value for group, value in scores.randomised.items()}


def _areas(curves: Curves) -> dict[str, float]:
    return {
        "deletion": curves.deletion.probability_area,
        "insertion": curves.insertion.probability_area,
        "deletion_margin": curves.deletion.margin_area,
        "insertion_margin": curves.insertion.margin_area,
    }


def _agreed(name: str, agreement: Agreement | None) -> dict[str, float | None]:
    if agreement is None:
        return {}
    return {f"{name}_spearman": agreement.spearman, f"{name}_top_tenth": agreement.top_overlap}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _estimate(values: NDArray[np.float64], weights: NDArray[np.float64], patients: Sequence[str]) -> Estimate:
    known = ~np.isnan(values)
    mean, slides = float(values[known].mean()), int(known.sum())
    if len({patient for patient, there in zip(patients, known, strict=True) if there}) < 2:
        return Estimate(mean, None, None, slides)
    counted = weights[:, known]
    counted = counted[counted.sum(axis=1) > 0]
    low, high = np.percentile(counted @ values[known] / counted.sum(axis=1), [2.5, 97.5])
    return Estimate(mean, float(low), float(high), slides)
