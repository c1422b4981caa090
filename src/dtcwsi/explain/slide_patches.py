"""Where a slide's patches lie in the picture of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SlidePatches"]


@dataclass(frozen=True)
class SlidePatches:
    """N patches, ``coords`` (N, 2) level-0 pixels of ``patch_size_level0`` a side, and what part of the slide is shown.

    The picture begins at ``origin_level0`` (x, y) and is ``width_level0`` by ``height_level0``; ``spacing_um`` is um
    per level-0 pixel, None if unknown.
    """

    coords: NDArray[np.int64]
    patch_size_level0: float
    origin_level0: tuple[float, float]
    width_level0: float
    height_level0: float
    spacing_um: float | None
