"""The cell-level task that the paper announces and never shows: smears as bags of single-cell crops.

A smear is 200 to 500 cells, 2 to 5 % of them large: with dark, irregular nuclei, or with pale, round ones and a
nucleolus, which is the class. Staining differs from smear to smear. Nothing is a slide here: a bag's rows are cells.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dtcwsi.benchmark.cohorts.feature_cohort import write_feature_cohort
from dtcwsi.encoders import Encoder
from dtcwsi.slides.synthetic.smear import CELL_PX, CELLS_A_FIELD, SMEAR_LABELS, draw_field
from dtcwsi.store.atomic import write_bytes
from dtcwsi.types import Bag

__all__ = ["Smear", "draw_smear", "write_cell_cohort"]

_FEWEST, _MOST = 200, 500
_TELLING = (0.02, 0.05)
_FIELDS, _DRAWN = 3, 0.06  # fields, and the share of large cells in them: more than are chosen of either
_SHEET_COLUMNS, _SHEET_ROWS = 8, 8


@dataclass(frozen=True)
class Smear:
    """Crops (N, 64, 64, 3) RGB at 0.25 um a pixel, where they lay (N, 2) x and y in pixels, which tell the class."""

    crops: NDArray[np.uint8]
    places: NDArray[np.int64]
    telling: NDArray[np.bool_]
    label: str


def draw_smear(number: int, *, seed: int) -> Smear:
    """Draw a smear; even and odd numbers are of the two classes.  The same numbers give the same smear."""
    label = SMEAR_LABELS[number % len(SMEAR_LABELS)]
    rng = np.random.default_rng([seed, number, 1])
    count = int(rng.integers(_FEWEST, _MOST + 1))
    wanted = max(1, round(count * rng.uniform(*_TELLING)))
    fields = [
        draw_field(label, _DRAWN, smear=np.random.default_rng([seed, number, 2]), field=rng) for _ in range(_FIELDS)
    ]
    crops, telling = (np.concatenate(parts) for parts in zip(*fields, strict=True))
    side = int(CELLS_A_FIELD**0.5)
    row, column = np.divmod(np.arange(len(crops)), side)
    places = np.stack([column, row], axis=1) * CELL_PX
    large, others = (rng.permutation(np.flatnonzero(which)) for which in (telling, ~telling))
    chosen = np.sort(np.concatenate([large[:wanted], others[: count - wanted]]))
    return Smear(crops[chosen], places[chosen], telling[chosen], label)


def write_cell_cohort(out: Path, encoder: Encoder, *, smears: int = 60, seed: int = 0) -> None:
    """Draw smears, embed their cells and write ``features/given``, ``labels.csv`` and the picture ``cells.png``.

    Every smear is a patient. The picture shows a smear of either class, the cells that tell it first.
    """
    _write_sheet(out / "cells.png", [draw_smear(number, seed=seed) for number in range(len(SMEAR_LABELS))])
    write_feature_cohort(out, _bags(encoder, smears, seed), classes=SMEAR_LABELS)


def _bags(encoder: Encoder, smears: int, seed: int) -> Iterator[Bag]:
    for number in range(smears):
        smear, step = draw_smear(number, seed=seed), encoder.batch_size
        rows = [encoder.encode(smear.crops[start : start + step]) for start in range(0, len(smear.crops), step)]
        features, places = torch.from_numpy(np.concatenate(rows)), torch.from_numpy(smear.places)
        yield Bag(features, places, float(CELL_PX), label=SMEAR_LABELS.index(smear.label))


def _write_sheet(path: Path, smears: list[Smear]) -> None:
    """Set a smear of either class side by side, a white gap between."""
    halves = []
    for smear in smears:
        shown = smear.crops[np.argsort(~smear.telling, kind="stable")][: _SHEET_COLUMNS * _SHEET_ROWS]
        grid = shown.reshape(_SHEET_ROWS, _SHEET_COLUMNS, CELL_PX, CELL_PX, 3).swapaxes(1, 2)
        halves += [grid.reshape(_SHEET_ROWS * CELL_PX, -1, 3), np.full((_SHEET_ROWS * CELL_PX, 16, 3), 255, np.uint8)]
    picture = cv2.cvtColor(np.concatenate(halves[:-1], axis=1), cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(".png", picture)[1].tobytes())
