"""Heat as colour: transparent over nothing, or tinting a slide in grey."""

from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.figures.painting import ATTENTION_MAP, DARKEST, pale_ground
from dtcwsi.explain.heatmap.blending import Blended

__all__ = ["heat_colours", "paint_over", "paint_transparent"]

_STEPS = 256


@cache
def heat_colours() -> NDArray[np.uint8]:
    """Give the RGB colours from cold to hot, (256, 3)."""
    colours = matplotlib.colormaps[ATTENTION_MAP](np.linspace(0, 1, _STEPS))[:, :3]
    return np.round(colours * 255).astype(np.uint8)


def paint_transparent(blended: Blended) -> NDArray[np.uint8]:
    """Paint heat as (height, width, 4) RGBA, as opaque as patches with attention cover each pixel."""
    opaque = np.pad(heat_colours(), ((0, 0), (0, 1)), constant_values=255).view(np.uint32)[:, 0]
    painted = opaque[_step(blended)].view(np.uint8).reshape(*blended.heat.shape, 4)
    partly = blended.cover < 1
    painted[partly, 3] = np.round(blended.cover[partly] * 255)
    painted[blended.cover == 0] = 0
    return painted


def paint_over(picture: NDArray[np.uint8], blended: Blended, cut: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Tint a picture (height, width, 3) RGB, made grey so that no stain reads as heat; uncovered pixels stay grey.

    ``cut`` (height, width) is the share of each pixel under patches of any attention; see `pale_ground`.
    """
    grey = pale_ground(picture, cut)[..., None]
    tinted = heat_colours()[_step(blended)] * (DARKEST + (1 - DARKEST) * grey / 255)
    cover = blended.cover[..., None]
    return np.asarray(np.round(cover * tinted + (1 - cover) * grey), np.uint8)


def _step(blended: Blended) -> NDArray[np.uint8]:
    return np.rint(blended.heat * (_STEPS - 1)).astype(np.uint8)
