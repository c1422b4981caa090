"""Single cells of a cytological smear, each on a crop of its own: the pieces of the cell-level task."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.palette import Palette
from dtcwsi.slides.synthetic.shapes import TEXTURE_PX, draw_blobs, draw_nuclei
from dtcwsi.slides.synthetic.stain import draw_stain, stained

__all__ = ["CELLS_A_FIELD", "CELL_PX", "SMEAR_LABELS", "draw_field"]

CELL_PX = 64
"""Pixels of a crop's side, at 0.25 um a pixel."""
_COLUMNS = TEXTURE_PX // CELL_PX
CELLS_A_FIELD = _COLUMNS**2
SMEAR_LABELS = ("dysplastic", "reactive")
"""The two classes, named after the few large nuclei of a smear: both have them, of different shape."""
_STAIN_STRENGTH = 0.8

Points = NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    """A kind of cell: semi-axes in pixels (mean, deviation), densities in hundredths, lobes, nucleoli."""

    share: float
    body_px: tuple[float, float]
    eosin: float
    haematoxylin: float
    nucleus_px: tuple[float, float]
    chromatin: float
    rim: float = 25.0
    uneven: float = 0.05
    lobes: int = 1
    nucleoli: int = 0


_COMMON = (
    _Kind(0.40, (27.0, 2.0), 34.0, 6.0, (5.2, 0.6), 120.0),  # superficial
    _Kind(0.30, (23.0, 2.2), 24.0, 18.0, (7.6, 0.8), 92.0),  # intermediate
    _Kind(0.15, (15.5, 1.5), 26.0, 34.0, (8.2, 0.8), 98.0),  # parabasal
    _Kind(0.09, (8.4, 0.7), 12.0, 24.0, (6.8, 0.5), 165.0),  # lymphocyte
    _Kind(0.06, (9.6, 0.7), 24.0, 8.0, (3.4, 0.4), 170.0, lobes=3),  # neutrophil
)
_TELLING = {
    "dysplastic": _Kind(0.0, (18.0, 2.4), 26.0, 28.0, (12.4, 1.3), 128.0, rim=34.0, uneven=0.15),
    "reactive": _Kind(0.0, (23.0, 2.2), 26.0, 22.0, (12.2, 1.2), 74.0, rim=40.0, uneven=0.03, nucleoli=1),
}


def draw_field(
    label: str, telling: float, *, smear: np.random.Generator, field: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw the 256 cells of a field, a share ``telling`` (0 to 1) of which are those that the label is named after.

    ``smear`` decides the stain, and should be at the same state for every field of a smear; ``field`` the cells.
    Returns: crops (256, 64, 64, 3) RGB, row by row as they lie in the field, and which of them are telling.
    """
    kinds = (_TELLING[label], *_COMMON)
    shares = np.array([telling, *((1 - telling) * kind.share for kind in _COMMON)])
    which = field.choice(len(kinds), CELLS_A_FIELD, p=shares / shares.sum())
    places = np.stack(np.divmod(np.arange(CELLS_A_FIELD), _COLUMNS)[::-1], axis=1) * CELL_PX + CELL_PX / 2
    places = places + field.normal(0.0, 2.0, places.shape)
    palette = Palette.from_rng(field)
    texture = palette.ground(3 + palette.medium(), 5 + 2 * palette.coarse())
    for number, kind in enumerate(kinds):
        _draw_cells(field, texture, places[which == number], kind)
    rgb = stained(
        palette.grained(texture, chromatin=0.3, cytoplasm=0.14), draw_stain(smear, smear, strength=_STAIN_STRENGTH)
    )
    sharp = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.7), np.uint8)
    crops = sharp.reshape(_COLUMNS, CELL_PX, _COLUMNS, CELL_PX, 3).swapaxes(1, 2).reshape(-1, CELL_PX, CELL_PX, 3)
    return np.ascontiguousarray(crops), which == 0


def _draw_cells(rng: np.random.Generator, texture: NDArray[np.uint8], places: Points, kind: _Kind) -> None:
    """Draw cells of one kind: bodies, then nuclei off their middles."""
    count = len(places)
    angles = rng.uniform(0.0, np.pi, count)
    body = rng.normal(*kind.body_px, (count, 1)) * rng.uniform(0.84, 1.12, (count, 2))
    density = np.stack([np.full(count, kind.haematoxylin), rng.normal(kind.eosin, 5.0, count), np.zeros(count)], axis=1)
    draw_blobs(rng, texture, places, body.clip(4.0, 30.0), angles, density, irregularity=0.06)
    size = rng.normal(*kind.nucleus_px, (count, 1)).clip(2.0)
    middle = places + rng.normal(0.0, 0.12, (count, 2)) * (body - size).clip(0.0)
    for lobe in range(kind.lobes):
        turn = angles + 2 * np.pi * lobe / kind.lobes
        away = (kind.lobes > 1) * 1.15 * size * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        axes = size * rng.uniform(1 - 2 * kind.uneven - 0.05, 1.05, (count, 2))
        draw_nuclei(
            rng, texture, middle + away, axes, angles, chromatin=kind.chromatin, rim=kind.rim, irregularity=kind.uneven
        )
    for _ in range(kind.nucleoli):
        inside = middle + rng.normal(0.0, 0.2, (count, 2)) * size
        draw_blobs(rng, texture, inside, np.full((count, 2), 2.6), 0.0, np.array([150.0, 80.0, 0.0]))
