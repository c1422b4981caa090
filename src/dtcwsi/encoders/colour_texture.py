"""Colour and texture statistics: a deterministic encoder without weights, for tests and quick looks."""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ColourTextureEncoder", "load"]

_BINS = 8
_WIDTHS_PX = (2, 4, 8, 16)
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each 8-bit value."""
_IN_BIN = np.eye(_BINS, dtype=np.float32)[np.clip((_DENSITY * (_BINS / 2)).astype(np.int64), 0, _BINS - 1)]
"""(256, bins) one-hot: the histogram bin of each 8-bit value."""


class ColourTextureEncoder:
    """48 numbers a patch: mean, deviation and histogram of optical density, and contrast at four scales.

    Per RGB channel of optical density: mean, standard deviation, an 8-bin histogram over 0..2, and the mean absolute
    difference between the channel and its blur at 2, 4, 8 and 16 pixels; then mean and deviation of HSV.
    """

    name = "colour-texture"
    dim = 3 * (2 + _BINS + 4) + 6
    digest = "colour-texture-2"
    batch_size = 64

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, 48) float32."""
        return np.stack([_describe(patch) for patch in pixels]) if len(pixels) else np.zeros((0, self.dim), np.float32)


def load(*, device: str = "cpu") -> ColourTextureEncoder:
    """Make the encoder; it runs on the CPU whatever the device."""
    return ColourTextureEncoder()


def _describe(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    density = cv2.LUT(patch, _DENSITY)
    blurred = (cv2.blur(density, (width, width)) for width in _WIDTHS_PX)
    contrasts = [cv2.mean(cv2.absdiff(density, blur))[:3] for blur in blurred]
    counts = np.stack([cv2.calcHist([patch], [channel], None, [256], [0, 256]).ravel() for channel in range(3)])
    histogram = (counts @ _IN_BIN).ravel() / (patch.shape[0] * patch.shape[1])
    density_moments = [moment.ravel() for moment in cv2.meanStdDev(density)]
    hsv_moments = [moment.ravel() / 255 for moment in cv2.meanStdDev(cv2.cvtColor(patch, cv2.COLOR_RGB2HSV))]
    return np.concatenate([*density_moments, histogram, *contrasts, *hsv_moments]).astype(np.float32)
