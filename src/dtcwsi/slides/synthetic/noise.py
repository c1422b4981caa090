"""Smooth random fields that wrap around, from which every texture is made."""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["smooth_noise", "warped", "wrapped"]


def smooth_noise(
    rng: np.random.Generator, size_px: int, wavelength_px: float | tuple[float, float]
) -> NDArray[np.float32]:
    """Draw a periodic Gaussian field with zero mean and unit variance.

    ``wavelength_px`` is the size of its bumps, or (along y, along x) for a field with a grain; at least 2 px.
    Returns: (size_px, size_px). Long waves are drawn on a coarser grid and enlarged.
    """
    along_y, along_x = (wavelength_px, wavelength_px) if isinstance(wavelength_px, int | float) else wavelength_px
    rows, columns = (_coarse_size(size_px, wavelength) for wavelength in (along_y, along_x))
    white = rng.standard_normal((rows, columns), dtype=np.float32)
    frequency_y = np.fft.fftfreq(rows)[:, None] * along_y * rows / size_px
    frequency_x = np.fft.rfftfreq(columns)[None, :] * along_x * columns / size_px
    spectrum = np.fft.rfft2(white) * np.exp(-2.0 * (frequency_y**2 + frequency_x**2))
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(rows, columns)).astype(np.float32)
    field /= max(float(field.std()), 1e-6)
    return _enlarged(field, size_px)


def wrapped(field: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift a periodic field by a random offset and turn it over at random: another field for the price of a copy."""
    turned = field[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return np.roll(turned, tuple(rng.integers(0, field.shape[0], 2)), axis=(0, 1))


def warped(
    texture: NDArray[np.uint8], shift_y: NDArray[np.float32], shift_x: NDArray[np.float32] | float = 0.0
) -> NDArray[np.uint8]:
    """Bend a periodic texture by a periodic displacement in pixels."""
    rows, columns = np.indices(texture.shape[:2], dtype=np.float32)
    bent = cv2.remap(texture, columns + shift_x, rows + shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(bent, dtype=np.uint8)


def _coarse_size(size_px: int, wavelength_px: float) -> int:
    coarse = size_px
    while coarse % 2 == 0 and coarse > 8 and wavelength_px * coarse / size_px >= 12.0:
        coarse //= 2
    return coarse


def _enlarged(field: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    if field.shape == (size_px, size_px):
        return field
    margin = 2
    padded = np.pad(field, margin, mode="wrap")
    scale_y, scale_x = size_px // field.shape[0], size_px // field.shape[1]
    large = cv2.resize(padded, None, fx=scale_x, fy=scale_y, interpolation=cv2.INTER_LINEAR)
    top, left = margin * scale_y, margin * scale_x
    return np.ascontiguousarray(large[top : top + size_px, left : left + size_px], dtype=np.float32)
