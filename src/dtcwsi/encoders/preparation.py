"""From a patch as it was cut to the pixels that a network takes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from dtcwsi.errors import EncoderError

__all__ = ["RESIZES", "Resize"]

RESIZES = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Resize:
    """Resize patches to squares of ``px`` and keep the middle ``crop_px`` of them.

    Antialiased, ``how`` is bilinear or bicubic; in 8 bits on the CPU, so that every device sees the same pixels.
    """

    px: int
    crop_px: int
    how: str = "bilinear"

    def __post_init__(self) -> None:
        if self.px < self.crop_px or self.how not in RESIZES:
            raise EncoderError(
                f"got resize_px={self.px}, input_px={self.crop_px} and resize={self.how!r}; expected a resize_px of "
                f"at least input_px, and one of {', '.join(RESIZES)}"
            )

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take (N, height, width, 3) RGB.  Returns: (N, crop_px, crop_px, 3)."""
        if pixels.shape[1:3] != (self.px, self.px):
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            made = interpolate(images, size=(self.px, self.px), mode=self.how, antialias=True)
            pixels = made.permute(0, 2, 3, 1).numpy()
        margin = (self.px - self.crop_px) // 2
        return pixels[:, margin : margin + self.crop_px, margin : margin + self.crop_px]
