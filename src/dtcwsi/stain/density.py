"""Optical density, and which pixels are tissue by it."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIGHT", "density", "enough", "tissue_pixels"]

LIGHT = 240.0
"""What a scanner's empty glass is taken for, of 255."""

_LEAST_DENSITY = 0.15
_LEAST_SHARE = 0.05
_TABLE = (-np.log((np.arange(256) + 1) / LIGHT)).astype(np.float32)


def density(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density, in natural logarithms, of RGB (height, width, 3).  Returns: (pixels, 3)."""
    return np.asarray(_TABLE[patch.reshape(-1, 3)])


def tissue_pixels(densities: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of (pixels, 3) densities are of tissue: at least 0.15, Macenko's beta, in the strongest colour.

    Some implementations ask for it in every colour, which passes over pure eosin, and tissue that is blue altogether.
    """
    return np.asarray(densities.max(axis=1) >= _LEAST_DENSITY)


def enough(tissue: NDArray[np.bool_]) -> bool:
    """Whether a twentieth of the pixels is tissue, so that its stain can be told."""
    return bool(np.count_nonzero(tissue) >= max(3, _LEAST_SHARE * len(tissue)))
