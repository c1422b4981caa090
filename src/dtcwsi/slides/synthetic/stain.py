"""From densities of stain to the colours of a scanner, by the law of Beer and Lambert."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Stain", "draw_stain", "stained"]

# Optical densities of red, green and blue per unit of haematoxylin, eosin and red cells. The first two are the
# reference vectors of Macenko et al., "A method for normalizing histology slides" (ISBI 2009).
_REFERENCE_VECTORS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581], [0.15, 0.85, 0.70]])
# Red cells hardly change colour between laboratories: they are coloured by themselves.
_HUE_FREEDOM = np.array([[1.0], [1.0], [0.4]])
_DENSITY_UNIT = 100.0


@dataclass(frozen=True)
class Stain:
    """How one slide was stained and scanned.

    ``vectors`` (3, 3): optical density of red, green, blue a unit of each stain. ``white`` (3,): the scanner's empty
    glass, 0..255. ``gamma`` is its tone curve, ``blur_px`` the standard deviation of its optics.
    """

    vectors: NDArray[np.float64]
    white: NDArray[np.float64]
    gamma: float
    blur_px: float


def draw_stain(patient_rng: np.random.Generator, slide_rng: np.random.Generator, *, strength: float) -> Stain:
    """Draw a laboratory (shared by a patient's slides) and one slide's departure from it.

    ``strength`` scales every departure from the reference; 0 gives the reference itself.
    """
    vectors = _REFERENCE_VECTORS.copy()
    for rng, share in ((patient_rng, 1.0), (slide_rng, 0.4)):
        hue = rng.normal(0.0, 0.055 * share * strength, (3, 3)) * _HUE_FREEDOM
        intensity = np.exp(rng.normal(0.0, 0.2 * share * strength, (3, 1)))
        vectors = np.clip(vectors + hue, 0.03, None) * intensity
    brightness, tint = patient_rng.uniform(-8.0, 6.0), patient_rng.uniform(-3.0, 3.0, 3)  # real glass is nearly grey
    white = 244.0 + strength * (brightness + tint)
    gamma = float(np.exp(patient_rng.normal(0.0, 0.1 * strength)))
    blur_px = float(0.45 + strength * slide_rng.uniform(0.0, 0.7))
    return Stain(vectors, np.clip(white, 225.0, 252.0), gamma, blur_px)


def stained(densities: NDArray[np.uint8], stain: Stain) -> NDArray[np.uint8]:
    """Turn densities (height, width, 3), in hundredths, into RGB of the same size."""
    optical_density = cv2.transform(densities, stain.vectors.T)
    transmitted = np.exp(-np.arange(256)[:, None] / _DENSITY_UNIT * stain.gamma) * stain.white
    table = np.round(transmitted).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(optical_density, table), dtype=np.uint8)
