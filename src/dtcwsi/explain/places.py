"""Where a slide's patches lie, and whether they can lie on the slide that is at hand."""

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.order import infer_step
from dtcwsi.types import Features, SlideInfo

__all__ = ["check_inside", "places_of"]


def places_of(features: Features) -> tuple[NDArray[np.int64], float]:
    """Give coordinates (N, 2) and the patches' side, both level-0 pixels.

    Raises: FeaturesError if the features have no coordinates.
    """
    if features.coords is None:
        raise FeaturesError(
            f"the features of {features.slide_id!r} have no coordinates, so nothing can be drawn; expected a dataset "
            "'coords': extract the slide again"
        )
    coords = np.asarray(features.coords, np.int64)
    return coords, float(features.patch_size_level0 or (infer_step(coords) if len(coords) else 1.0))


def check_inside(slide_id: str, coords: NDArray[np.int64], patch_size: float, info: SlideInfo) -> None:
    """Make sure that patches lie on a slide.  Raises: FeaturesError if not."""
    if not len(coords):
        return
    right, bottom = (coords.max(axis=0) + patch_size).tolist()
    # Other tools let the last patch of a row reach over the rim.
    if coords.min() < 0 or right > info.width_px + patch_size or bottom > info.height_px + patch_size:
        raise FeaturesError(
            f"the features of {slide_id!r} have patches up to pixel ({right:g}, {bottom:g}), but {info.path.name!r} "
            f"has {info.width_px} x {info.height_px}; name the slide file that the features were made from"
        )
