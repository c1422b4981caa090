"""Nuclei and other small shapes, drawn on textures that wrap around.

A texture is (size, size, 3) uint8: hundredths of the optical density of haematoxylin, eosin and red cells.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["TEXTURE_PX", "cell_walls", "draw_blobs", "draw_nuclei", "nearest_centre", "scattered"]

TEXTURE_PX = 1024
_SUBPIXEL_BITS = 4

Points = NDArray[np.float64]
Texture = NDArray[np.uint8]


def scattered(rng: np.random.Generator, spacing_px: float, *, jitter: float = 0.3) -> Points:
    """Place points on a periodic hexagonal lattice, each moved by ``jitter`` spacings (standard deviation).

    Returns: (n, 2) of x, y in 0..TEXTURE_PX.
    """
    columns = max(2, round(TEXTURE_PX / spacing_px))
    rows = max(2, 2 * round(TEXTURE_PX / (spacing_px * np.sqrt(3))))
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    x += 0.5 * (y % 2)
    points = np.stack([x.ravel() * TEXTURE_PX / columns, y.ravel() * TEXTURE_PX / rows], axis=1)
    return (points + rng.normal(0.0, jitter * spacing_px, points.shape)) % TEXTURE_PX


def draw_blobs(
    rng: np.random.Generator,
    texture: Texture,
    centres: Points,
    semi_axes_px: NDArray[np.float64],
    angles: NDArray[np.float64] | float,
    stains: NDArray[np.float64],
    *,
    irregularity: float = 0.08,
) -> None:
    """Fill irregular ellipses, with antialiased borders and wrapping around the texture's edges.

    ``centres`` and ``semi_axes_px`` are (n, 2), ``angles`` radians, ``stains`` (n, 3) or (3,).
    """
    outlines = _blob_outlines(rng, centres, semi_axes_px, angles, irregularity)
    colours = np.broadcast_to(np.clip(stains, 0, 255), (len(centres), 3))
    for outline, colour in _with_wrapped_copies(outlines, colours):
        cv2.fillConvexPoly(texture, outline, colour, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_nuclei(
    rng: np.random.Generator,
    texture: Texture,
    centres: Points,
    semi_axes_px: NDArray[np.float64],
    angles: NDArray[np.float64] | float,
    *,
    chromatin: float,
    rim: float = 25.0,
    spread: float = 14.0,
    irregularity: float = 0.08,
) -> None:
    """Draw nuclei: a membrane of density ``chromatin + rim`` around a paler body, both varying by ``spread``."""
    state = rng.integers(2**32)
    density = chromatin + rng.normal(0.0, spread, len(centres))
    eosin = np.full_like(density, 22.0)
    nothing = np.zeros_like(density)
    membrane = np.stack([density + rim, eosin, nothing], axis=1)
    body = np.stack([density, eosin, nothing], axis=1)
    # The same generator state twice: the body has to follow the outline of its membrane.
    for stains, inset_px in ((membrane, 0.0), (body, 1.1)):
        draw_blobs(
            np.random.default_rng(state),
            texture,
            centres,
            np.maximum(semi_axes_px - inset_px, 0.8),
            angles,
            stains,
            irregularity=irregularity,
        )


def nearest_centre(centres: Points, *, shrink: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find each pixel's nearest centre on the torus.

    Returns: its distance in pixels, and its row in ``centres``; both (TEXTURE_PX / shrink,) squared.
    """
    size = TEXTURE_PX // shrink
    margin = size // 4
    seeds = np.ones((size, size), np.uint8)
    x, y = np.minimum(centres / shrink, size - 1).astype(np.int64).T
    seeds[y, x] = 0
    owner = np.zeros((size, size), np.int64)
    owner[y, x] = np.arange(len(centres))
    padded = np.pad(seeds, margin, mode="wrap")
    distance, labels = cv2.distanceTransformWithLabels(padded, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    owner_of_label = np.zeros(int(labels.max()) + 1, np.int64)
    at_seed = padded == 0
    owner_of_label[labels[at_seed]] = np.pad(owner, margin, mode="wrap")[at_seed]
    inner = slice(margin, margin + size)
    return np.asarray(distance[inner, inner] * shrink, dtype=np.float32), owner_of_label[labels[inner, inner]]


def cell_walls(centres: Points, *, width_px: float) -> NDArray[np.float32]:
    """Draw the borders between the cells around ``centres``, thicker where three meet.

    Returns: (TEXTURE_PX, TEXTURE_PX) in 0..1.
    """
    _, owner = nearest_centre(centres)
    border = ((owner != np.roll(owner, 1, axis=0)) | (owner != np.roll(owner, 1, axis=1))).astype(np.float32)
    margin = int(4 * width_px) + 1
    blurred = cv2.GaussianBlur(np.pad(border, margin, mode="wrap"), (0, 0), width_px)
    inner = blurred[margin:-margin, margin:-margin] * width_px * 2.5
    return np.asarray(np.clip((inner - 0.62) * 3.0, 0.0, 1.0), dtype=np.float32)


def _blob_outlines(
    rng: np.random.Generator,
    centres: Points,
    semi_axes_px: NDArray[np.float64],
    angles: NDArray[np.float64] | float,
    irregularity: float,
    corners: int = 16,
) -> Points:
    count = len(centres)
    around = np.linspace(0.0, 2 * np.pi, corners, endpoint=False)[None, :]
    phases = rng.uniform(0.0, 2 * np.pi, (2, count, 1))
    radius = 1 + irregularity * (np.sin(2 * around + phases[0]) + np.sin(3 * around + phases[1]))
    along, across = np.cos(around) * radius * semi_axes_px[:, :1], np.sin(around) * radius * semi_axes_px[:, 1:]
    turn = np.broadcast_to(np.asarray(angles, dtype=np.float64), (count,))[:, None]
    x = centres[:, :1] + along * np.cos(turn) - across * np.sin(turn)
    y = centres[:, 1:] + along * np.sin(turn) + across * np.cos(turn)
    return np.stack([x, y], axis=2)


def _with_wrapped_copies(
    outlines: Points, colours: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int32], tuple[float, ...]]]:
    lowest, highest = outlines.min(axis=1), outlines.max(axis=1)
    shifts = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]) * float(TEXTURE_PX)
    seen = ((highest[:, None] + shifts > 0) & (lowest[:, None] + shifts < TEXTURE_PX)).all(axis=2)
    shape_of_copy, shift_of_copy = np.nonzero(seen)
    fixed = np.round((outlines[shape_of_copy] + shifts[shift_of_copy][:, None]) * 2**_SUBPIXEL_BITS).astype(np.int32)
    for outline, colour in zip(fixed, colours[shape_of_copy].tolist(), strict=True):
        yield outline, tuple(colour)
