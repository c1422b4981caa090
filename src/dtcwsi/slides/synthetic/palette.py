"""What every texture of a slide shares: its random numbers, its noise and how nuclei and ground take stain."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.noise import smooth_noise, wrapped
from dtcwsi.slides.synthetic.shapes import TEXTURE_PX

__all__ = ["Palette"]

Density = NDArray[np.floating[Any]] | float


@dataclass(frozen=True)
class Palette:
    """Random numbers and reusable noise fields, each (TEXTURE_PX, TEXTURE_PX), zero mean and unit variance."""

    rng: np.random.Generator
    fine_field: NDArray[np.float32]
    medium_field: NDArray[np.float32]
    coarse_field: NDArray[np.float32]

    @classmethod
    def from_rng(cls, rng: np.random.Generator) -> "Palette":
        """Draw the fields."""
        fields = (smooth_noise(rng, TEXTURE_PX, wavelength) for wavelength in (3.5, 14.0, 120.0))
        return cls(rng, *fields)

    def for_rng(self, rng: np.random.Generator) -> "Palette":
        """The same fields, used with other random numbers."""
        return replace(self, rng=rng)

    def fine(self) -> NDArray[np.float32]:
        """Noise of the size of chromatin clumps (1.5 um)."""
        return wrapped(self.fine_field, self.rng)

    def medium(self) -> NDArray[np.float32]:
        """Noise of the size of a nucleus (7 um)."""
        return wrapped(self.medium_field, self.rng)

    def coarse(self) -> NDArray[np.float32]:
        """Noise of the size of a gland (60 um)."""
        return wrapped(self.coarse_field, self.rng)

    def ground(
        self,
        haematoxylin: Density,
        eosin: Density,
        red: Density = 0.0,
    ) -> NDArray[np.uint8]:
        """Make a texture of three densities, in hundredths, fields or constants."""
        texture = np.empty((TEXTURE_PX, TEXTURE_PX, 3), np.uint8)
        for channel, density in enumerate((haematoxylin, eosin, red)):
            texture[..., channel] = np.clip(density, 0, 255)
        return texture

    def grained(
        self, texture: NDArray[np.uint8], *, chromatin: float = 0.22, cytoplasm: float = 0.1
    ) -> NDArray[np.uint8]:
        """Give a texture its finest structure: clumped chromatin where it is blue, granules where it is pink."""
        strength = np.array([chromatin, cytoplasm, 0.06], np.float32)
        factor = 1.0 + self.fine()[..., None] * strength
        return np.clip(texture * factor, 0, 255).astype(np.uint8)
