"""Does a map find what it should: its values against a mask of the lesion."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dtcwsi.errors import SlideError

__all__ = [
    "LESION_SHARE",
    "TRUTH_DOWNSAMPLE",
    "LesionScores",
    "TruthMask",
    "dice",
    "lesion_auroc",
    "lesion_cover",
    "lesion_scores",
    "read_mask",
]

TRUTH_DOWNSAMPLE = 16
"""Level-0 pixels a pixel of the masks of cohorts that are drawn or composed."""

LESION_SHARE = 0.25
"""A patch counts as lesion from this covered share up: a quarter of a patch is plain to see, and a lesion of a few
patches does not vanish between the grid's lines."""


def lesion_auroc(
    attention: NDArray[np.float64],
    coords: NDArray[np.int64],
    patch_size_level0: float,
    mask: NDArray[np.bool_],
    *,
    downsample: float,
    lesion_share: float = LESION_SHARE,
) -> float | None:
    """Area under the ROC curve of patch attention as a detector of lesion patches: 0.5 is chance, 1 is perfect.

    ``attention`` (N,); ``coords`` (N, 2); each pixel of ``mask`` (height, width) covers ``downsample`` level-0 pixels.
    Pruned patches count, with the attention 0 that they have.
    Returns: None if no patch, or every patch, is lesion.
    """
    lesion = lesion_cover(coords, patch_size_level0, mask, downsample=downsample) >= lesion_share
    if not lesion.any() or lesion.all():
        return None
    return float(roc_auc_score(lesion, attention))


@dataclass(frozen=True)
class TruthMask:
    """Where the lesion really is: ``lesion`` (height, width), each pixel ``downsample`` level-0 pixels a side."""

    lesion: NDArray[np.bool_]
    downsample: float


@dataclass(frozen=True)
class LesionScores:
    """How well a map finds the lesion.

    ``auroc`` over patches, see `lesion_auroc`. ``dice_as_many`` takes as many patches from the top as the lesion has:
    it knows the lesion's size, not its place. ``dice_above_share`` takes the patches that have more than an even share,
    1 / N, and knows nothing of the lesion; None for maps whose values are no shares.
    """

    auroc: float
    dice_as_many: float
    dice_above_share: float | None


def lesion_scores(
    values: NDArray[np.float64], order: NDArray[np.int64], lesion: NDArray[np.bool_], *, shares: bool
) -> LesionScores | None:
    """Score a map (N,), its falling ``order`` and which patches are lesion (N,); ``shares``: whether values sum to 1.

    Returns: None if no patch, or every patch, is lesion.
    """
    if not lesion.any() or lesion.all():
        return None
    top = np.zeros(len(lesion), np.bool_)
    top[order[: int(lesion.sum())]] = True
    above = dice(values > 1.0 / len(values), lesion) if shares else None
    return LesionScores(float(roc_auc_score(lesion, values)), dice(top, lesion), above)


def dice(chosen: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> float:
    """Twice the patches in both sets over the sum of their sizes; ``lesion`` has one at least."""
    return float(2 * (chosen & lesion).sum() / (chosen.sum() + lesion.sum()))


def lesion_cover(
    coords: NDArray[np.int64], patch_size_level0: float, mask: NDArray[np.bool_], *, downsample: float
) -> NDArray[np.float64]:
    """Share of each patch's area (N,) that the mask covers, exact for fractions of mask pixels too."""
    top_left = coords / downsample
    side = patch_size_level0 / downsample
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = np.cumsum(np.cumsum(mask, axis=0, dtype=np.float64), axis=1)
    left, top = top_left[:, 0], top_left[:, 1]
    right, bottom = left + side, top + side
    area = _at(total, bottom, right) - _at(total, top, right) - _at(total, bottom, left) + _at(total, top, left)
    return np.asarray(area / side**2)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask picture (height, width): lesion where it is brighter than half.

    Raises: SlideError if the file is missing or no picture.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise SlideError(f"{path} is no readable picture; expected a PNG mask that is white in the lesion")
    return np.asarray(mask >= 128)


def _at(total: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Summed area between whole pixels: linear in between, since a pixel is the same all over."""
    y, x = y.clip(0, total.shape[0] - 1), x.clip(0, total.shape[1] - 1)
    row = np.minimum(y.astype(int), total.shape[0] - 2)
    column = np.minimum(x.astype(int), total.shape[1] - 2)
    down, across = y - row, x - column
    upper = total[row, column] * (1 - across) + total[row, column + 1] * across
    lower = total[row + 1, column] * (1 - across) + total[row + 1, column + 1] * across
    return np.asarray(upper * (1 - down) + lower * down)
