"""Colour and texture statistics: a deterministic encoder without weights, for tests and quick looks."""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ColourTextureEncoder", "load"]

_BINS = 8


class ColourTextureEncoder:
    """48 numbers a patch: mean, deviation and histogram of optical density, and contrast at four scales.

    Per RGB channel of optical density: mean, standard deviation, an 8-bin histogram over 0..2, and the mean absolute
    difference between the channel and its blur at 2, 4, 8 and 16 pixels; then mean and deviation of HSV.
    """

    name = "colour-texture"
    dim = 3 * (2 + _BINS + 4) + 6
    digest = "colour-texture-1"
    batch_size = 64

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, 48) float32."""
        return np.stack([_describe(patch) for patch in pixels]) if len(pixels) else np.zeros((0, self.dim), np.float32)


def load(*, device: str = "cpu") -> ColourTextureEncoder:
    """Make the encoder; it runs on the CPU whatever the device."""
    return ColourTextureEncoder()


def _describe(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    density = -np.log((patch.astype(np.float32) + 1) / 256)
    hsv = cv2.cvtColor(patch, cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(np.float32) / 255
    contrasts = [np.abs(density - cv2.blur(density, (width, width))).mean(axis=(0, 1)) for width in (2, 4, 8, 16)]
    flat = density.reshape(-1, 3)
    cells = np.clip((flat * (_BINS / 2)).astype(np.int64), 0, _BINS - 1) + _BINS * np.arange(3)
    histogram = np.bincount(cells.ravel(), minlength=3 * _BINS) / len(flat)
    parts = [flat.mean(axis=0), flat.std(axis=0), histogram, *contrasts, hsv.mean(axis=0), hsv.std(axis=0)]
    return np.concatenate(parts).astype(np.float32)
