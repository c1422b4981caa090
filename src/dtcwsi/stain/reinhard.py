"""Colour transfer: the mean and spread of tissue in a decorrelated colour space."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import OptionError
from dtcwsi.stain.density import density, enough, tissue_pixels

__all__ = ["Reinhard"]

_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], np.float32)
_OPPONENTS = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]], np.float32) / np.sqrt(np.array([[3], [6], [2]], np.float32))
_LEAST_SPREAD = 1e-3
_GRADUAL = (0.05, 0.15)


@dataclass(frozen=True)
class Reinhard:
    """Give a patch's tissue the mean and the standard deviation of a target, in l-alpha-beta; glass stays as it is.

    Between glass and tissue, densities of 0.05 to 0.15, colours change over gradually, so that no seam is left.
    ``mean`` and ``spread`` are of natural logarithms of cone responses to RGB of 0 to 255. Without them: those of a
    region of slide TCGA-A2-A3XS-DX1 (Amgad et al., Bioinformatics 2019), which HistomicsTK takes.
    Source: Reinhard et al., Color transfer between images (IEEE Computer Graphics and Applications 2001).
    """

    mean: tuple[float, ...] = (8.74108109, -0.12440419, 0.0444982)
    spread: tuple[float, ...] = (0.6135447, 0.10989545, 0.0286032)
    name: ClassVar[str] = "reinhard"

    @classmethod
    def fitted(cls, picture: NDArray[np.uint8]) -> "Reinhard":
        """The target that a picture (height, width, 3) RGB sets.  Raises: OptionError if it shows too little tissue."""
        tissue = tissue_pixels(density(picture))
        colours = _opponent(picture)[tissue]
        if not enough(tissue) or (colours.std(axis=0) < _LEAST_SPREAD).any():
            raise OptionError("the stain target shows too little tissue, or a single colour; expected H&E tissue")
        mean, spread = (
            tuple(np.round(values.astype(float), 6).tolist()) for values in (colours.mean(0), colours.std(0))
        )
        return cls(mean, spread)

    def target(self) -> dict[str, Any]:
        """The numbers that say what patches are normalised to."""
        return {"mean": list(self.mean), "spread": list(self.spread)}

    def one(self, patch: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Normalise a patch (height, width, 3); None if it has too little tissue, or tissue of a single colour."""
        densities, colours = density(patch), _opponent(patch)
        tissue = tissue_pixels(densities)
        if not enough(tissue):
            return None
        mean, spread = colours[tissue].mean(axis=0), colours[tissue].std(axis=0)
        if (spread < _LEAST_SPREAD).any():
            return None
        moved = (colours - mean) * (np.asarray(self.spread, np.float32) / spread) + np.asarray(self.mean, np.float32)
        light = np.clip(np.exp(moved @ np.linalg.inv(_OPPONENTS).T) @ np.linalg.inv(_CONES).T, 0, 255)
        low, high = _GRADUAL
        share = np.clip((densities.max(axis=1, keepdims=True) - low) / (high - low), 0, 1)
        made = share * light + (1 - share) * patch.reshape(-1, 3)
        return np.asarray(np.rint(made), np.uint8).reshape(patch.shape)


def _opponent(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The l-alpha-beta of RGB (height, width, 3).  Returns: (pixels, 3)."""
    light = np.maximum(patch.reshape(-1, 3), 1).astype(np.float32)
    return np.asarray(np.log(light @ _CONES.T) @ _OPPONENTS.T)
