"""Stain normalisation by the plane of two stains in optical density."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import OptionError
from dtcwsi.stain.density import LIGHT, density, enough, tissue_pixels

__all__ = ["Macenko"]

_EDGES = (1.0, 99.0)
_LEAST_ANGLE = 0.1
_VECTORS = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
_STRENGTHS = (1.9705, 1.0308)


@dataclass(frozen=True)
class Macenko:
    """Give the two stains of a patch the colours and the strengths of a target.

    ``vectors`` are the directions of haematoxylin and eosin in optical density of red, green, blue; ``strengths`` the
    99th percentile of either's amount among tissue pixels. Without them: the reference values that M. Veta's
    implementation made common.
    Source: Macenko et al., A method for normalizing histology slides for quantitative analysis (ISBI 2009).
    """

    vectors: tuple[tuple[float, ...], ...] = _VECTORS
    strengths: tuple[float, ...] = _STRENGTHS
    name: ClassVar[str] = "macenko"

    @classmethod
    def fitted(cls, picture: NDArray[np.uint8]) -> "Macenko":
        """The target that a picture (height, width, 3) RGB sets.  Raises: OptionError if two stains cannot be told."""
        found = _fit(density(picture))
        if found is None:
            raise OptionError("the stain target shows too little tissue, or a single stain; expected H&E tissue")
        vectors, strengths = found
        return cls(tuple(map(tuple, np.round(vectors, 6).tolist())), tuple(np.round(strengths, 6).tolist()))

    def target(self) -> dict[str, Any]:
        """The numbers that say what patches are normalised to."""
        return {"vectors": [list(vector) for vector in self.vectors], "strengths": list(self.strengths)}

    def one(self, patch: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Normalise a patch (height, width, 3); None if its own stains cannot be told."""
        densities = density(patch)
        found = _fit(densities)
        if found is None:
            return None
        vectors, strengths = found
        scaled = np.asarray(self.vectors, np.float32) * (np.asarray(self.strengths) / strengths)[:, None]
        light = LIGHT * np.exp(-(densities @ (np.linalg.pinv(vectors) @ scaled).astype(np.float32)))
        return np.clip(np.rint(light), 0, 255).astype(np.uint8).reshape(patch.shape)


def _fit(densities: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The two stains (2, 3), haematoxylin first, and their strengths (2,); None if they cannot be told apart."""
    tissue = tissue_pixels(densities)
    if not enough(tissue):
        return None
    seen = densities[tissue]
    plane = np.linalg.eigh(np.cov(seen, rowvar=False))[1][:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    along, across = (seen @ plane.astype(np.float32)).T
    low, high = np.percentile(np.arctan2(across, along), _EDGES)
    if not _LEAST_ANGLE <= high - low < np.pi / 2:
        return None
    vectors = np.array([[np.cos(angle), np.sin(angle)] for angle in (low, high)]) @ plane.T
    vectors = vectors[np.argsort(-vectors[:, 0])]  # haematoxylin takes up more red than eosin does
    amounts = seen @ np.linalg.pinv(vectors).astype(np.float32)
    strengths = np.asarray(np.percentile(amounts, _EDGES[1], axis=0), np.float64)
    return (vectors, strengths) if (strengths > 0.01).all() else None
