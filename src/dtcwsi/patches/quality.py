"""How sharp a patch is and how much of it is marker ink, and which patches are good enough."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import OptionError
from dtcwsi.types import PatchGrid

__all__ = ["QualityParameters", "good_enough", "measured_at", "quality_scores"]

_PEN_CELL_UM = 4.0
_REDNESS, _DARKEST, _GREYEST = 0.85, 100, 0.2
_OFFSET = 10


@dataclass(frozen=True)
class QualityParameters:
    """At which um/px patches are looked at, the least sharpness and the largest share of pen that are kept.

    A ``min_sharpness`` of 0 and a ``max_pen`` of 1 keep every patch.
    """

    spacing_um: float = 1.0
    min_sharpness: float = 0.0
    max_pen: float = 1.0

    def __post_init__(self) -> None:
        if not 0.05 <= self.spacing_um <= 20:
            raise OptionError(f"the um/px of quality is {self.spacing_um:g}; expected 0.05 to 20")
        if not 0 <= self.min_sharpness < float("inf"):
            raise OptionError(f"min_sharpness is {self.min_sharpness:g}; expected 0 or more")
        if not 0 <= self.max_pen <= 1:
            raise OptionError(f"max_pen is {self.max_pen:g}; expected a share of pixels, 0 to 1")


def measured_at(grid: PatchGrid, parameters: QualityParameters) -> PatchGrid:
    """The same patches at the um/px at which they are looked at."""
    side_px = max(8, round(grid.patch_size_px * grid.spacing_um / parameters.spacing_um))
    return PatchGrid(grid.coords, grid.tissue_fraction, side_px, grid.patch_size_level0, parameters.spacing_um)


def quality_scores(pixels: NDArray[np.uint8], spacing_um: float) -> dict[str, NDArray[np.float32]]:
    """Score patches (N, height, width, 3) of RGB.

    Returns: ``sharpness``, the variance of the Laplacian (4 neighbours) of grey levels 0 to 255, which glass and blur
    lower; ``pen``, the share of cells of about 4 um whose mean colour is that of ink: green well above red, as H&E is
    not, or dark and without colour. Red ink looks like blood and is not seen; black ink over tissue often is not.
    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (ICPR 2000), for the Laplacian.
    """
    return {
        "sharpness": np.array([_sharpness(patch) for patch in pixels], np.float32),
        "pen": np.array([_pen(patch, spacing_um) for patch in pixels], np.float32),
    }


def good_enough(scores: Mapping[str, NDArray[np.float32]], parameters: QualityParameters) -> NDArray[np.bool_]:
    """Which patches (N,) are sharp enough and have little enough pen."""
    return np.asarray((scores["sharpness"] >= parameters.min_sharpness) & (scores["pen"] <= parameters.max_pen))


def _sharpness(patch: NDArray[np.uint8]) -> float:
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F, ksize=1).var())


def _pen(patch: NDArray[np.uint8], spacing_um: float) -> float:
    height, width = (max(1, round(side * spacing_um / _PEN_CELL_UM)) for side in patch.shape[:2])
    cells = patch
    if (height, width) < patch.shape[:2]:
        cells = np.asarray(cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    red, green = cells[..., 0] + np.float32(_OFFSET), cells[..., 1] + np.float32(_OFFSET)
    most, least = cells.max(axis=2).astype(np.float32), cells.min(axis=2)
    black = (most < _DARKEST) & (most - least < _GREYEST * most)
    return float(((red < _REDNESS * green) | black).mean())
