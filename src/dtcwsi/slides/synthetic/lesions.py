"""The two lesions that tell the classes apart; nothing else in a slide depends on its label."""

import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.connective import fibrous_stroma
from dtcwsi.slides.synthetic.noise import smooth_noise, warped
from dtcwsi.slides.synthetic.palette import Palette
from dtcwsi.slides.synthetic.shapes import (
    TEXTURE_PX,
    cell_walls,
    draw_blobs,
    draw_nuclei,
    nearest_centre,
    scattered,
)

__all__ = ["large_cell_nests", "whorls"]


def large_cell_nests(palette: Palette) -> NDArray[np.uint8]:
    """Sheets of large pale cells of unequal size with vesicular nuclei and big nucleoli, parted by thin septa."""
    rng = palette.rng
    septum = np.clip(1.6 - np.abs(smooth_noise(rng, TEXTURE_PX, 210.0)) / 0.085, 0, 1)
    centres = scattered(rng, 37.0, jitter=0.2)
    walls = cell_walls(centres, width_px=1.5)
    texture = palette.ground(20 + 4 * palette.medium() + 10 * walls, 34 + 6 * palette.medium() + 26 * walls)
    size_px = np.clip(rng.normal(12.2, 2.6, (len(centres), 1)), 7.5, 20.0)
    semi_axes = size_px * rng.uniform(0.82, 1.2, (len(centres), 2))
    angles = rng.uniform(0.0, np.pi, len(centres))
    draw_nuclei(rng, texture, centres, semi_axes, angles, chromatin=62.0, rim=62.0, spread=12.0, irregularity=0.09)
    _nucleoli(palette, texture, centres, size_px)
    _mitoses(palette, texture)
    texture = palette.grained(texture, chromatin=0.3, cytoplasm=0.14)
    stroma = fibrous_stroma(palette)
    return np.where(septum[..., None] > 0.5, stroma, texture)


def whorls(palette: Palette) -> NDArray[np.uint8]:
    """Concentric eosinophilic lamellae, like pearls of keratin, among polygonal cells."""
    rng = palette.rng
    cells = scattered(rng, 30.0, jitter=0.18)
    walls = cell_walls(cells, width_px=1.3)
    texture = palette.ground(17 + 4 * palette.medium(), 58 + 6 * palette.medium() - 30 * walls)
    draw_nuclei(rng, texture, cells, rng.normal(7.0, 0.8, (len(cells), 2)), 0.0, chromatin=95.0)
    centres = scattered(rng, 200.0, jitter=0.09)
    radii = rng.uniform(66.0, 92.0, len(centres))
    distance, owner = nearest_centre(centres)
    wobbly = distance + 7.0 * palette.medium() + 10.0 * palette.coarse()
    share = wobbly / radii[owner]
    lamellae = np.sin(2 * np.pi * (distance + 3.0 * palette.medium()) / 10.5)
    eosin = 132 - 58 * np.clip(share, 0, 1) + 17 * lamellae + 4 * palette.fine()
    pearl = palette.ground(10 + 4 * lamellae, eosin)
    inside = (share < 1.0)[..., None]
    texture = np.where(inside, pearl, texture)
    _flattened_nuclei(palette, texture, centres, radii)
    return warped(palette.grained(texture, cytoplasm=0.07), 7.0 * palette.coarse(), 7.0 * palette.coarse())


def _nucleoli(
    palette: Palette, texture: NDArray[np.uint8], centres: NDArray[np.float64], size_px: NDArray[np.float64]
) -> None:
    rng = palette.rng
    for share in (1.0, 0.35):
        chosen = rng.random(len(centres)) < share
        places = centres[chosen] + rng.normal(0.0, 0.22, (int(chosen.sum()), 2)) * size_px[chosen]
        semi_axes = np.clip(rng.normal(2.9, 0.6, (len(places), 1)), 1.4, 4.5) * np.ones((1, 2))
        draw_blobs(rng, texture, places, semi_axes, 0.0, np.array([165.0, 85.0, 0.0]))


def _mitoses(palette: Palette, texture: NDArray[np.uint8]) -> None:
    rng = palette.rng
    places = scattered(rng, 260.0, jitter=0.4)
    draw_blobs(rng, texture, places, np.full((len(places), 2), 14.0), 0.0, np.array([12.0, 30.0, 0.0]))
    angles = rng.uniform(0.0, np.pi, len(places))
    semi_axes = rng.normal((8.5, 3.0), (1.2, 0.5), (len(places), 2))
    draw_nuclei(rng, texture, places, semi_axes, angles, chromatin=195.0, irregularity=0.16)


def _flattened_nuclei(
    palette: Palette, texture: NDArray[np.uint8], centres: NDArray[np.float64], radii: NDArray[np.float64]
) -> None:
    rng = palette.rng
    pearl = np.repeat(np.arange(len(centres)), 46)
    around = rng.uniform(0.0, 2 * np.pi, len(pearl))
    distance = radii[pearl] * rng.uniform(0.55, 1.06, len(pearl))
    places = centres[pearl] + distance[:, None] * np.stack([np.cos(around), np.sin(around)], axis=1)
    semi_axes = rng.normal((8.0, 2.2), (1.2, 0.3), (len(places), 2))
    draw_nuclei(rng, texture, places, semi_axes, around + np.pi / 2, chromatin=105.0)
