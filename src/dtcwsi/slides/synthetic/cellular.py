"""Tissues made of cells: glands, lymphocytes, necrosis, blood."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.connective import loose_stroma
from dtcwsi.slides.synthetic.noise import smooth_noise
from dtcwsi.slides.synthetic.palette import Palette
from dtcwsi.slides.synthetic.shapes import TEXTURE_PX, draw_blobs, draw_nuclei, scattered

__all__ = ["blood", "glands", "lymphocytes", "necrosis"]


def glands(palette: Palette) -> NDArray[np.uint8]:
    """Lumina ringed by columnar cells whose nuclei stand in a row at the outside, in loose stroma."""
    rng = palette.rng
    texture = loose_stroma(palette)
    centres = scattered(rng, 192.0, jitter=0.06)
    radii = rng.uniform(54.0, 84.0, (len(centres), 1)) * rng.uniform(0.86, 1.16, (len(centres), 2))
    shape_state = rng.integers(2**32)
    angles = rng.uniform(0.0, np.pi, len(centres))
    # The same generator state each time keeps cytoplasm, brush border and lumen concentric.
    for inset_px, stains in ((0.0, (20, 58, 0)), (25.0, (16, 70, 0)), (27.0, (5, 9, 0))):
        shape_rng = np.random.default_rng(shape_state)
        draw_blobs(shape_rng, texture, centres, radii - inset_px, angles, np.array(stains), irregularity=0.07)
    _secretions(palette, texture, centres, radii, angles)
    _columnar_nuclei(palette, texture, centres, radii, angles, np.random.default_rng(shape_state))
    return palette.grained(texture, cytoplasm=0.13)


def lymphocytes(palette: Palette) -> NDArray[np.uint8]:
    """Small round dark nuclei side by side, paler and looser in germinal centres."""
    rng = palette.rng
    follicle = smooth_noise(rng, TEXTURE_PX, 300.0)
    texture = palette.ground(20 + 4 * palette.medium(), 24 + 5 * palette.medium())
    centres = scattered(rng, 14.2, jitter=0.17)
    x, y = centres.astype(np.int64).T
    in_centre = follicle[y, x] > 1.1
    for chosen, radius_px, chromatin in ((~in_centre, 5.7, 158.0), (in_centre, 6.9, 92.0)):
        some = centres[chosen & (rng.random(len(centres)) > 0.06)]
        draw_nuclei(rng, texture, some, rng.normal(radius_px, 0.55, (len(some), 2)), 0.0, chromatin=chromatin)
    return palette.grained(texture, chromatin=0.26)


def necrosis(palette: Palette) -> NDArray[np.uint8]:
    """Smudged eosinophilic ground with ghosts of cells and dust of broken nuclei."""
    rng = palette.rng
    smudge = palette.medium()
    clouds = palette.coarse()
    eosin = 66 + 9 * smudge + 9 * clouds + 5 * palette.fine()
    texture = palette.ground(17 + 5 * smudge + 4 * palette.coarse(), eosin)
    ghosts = scattered(rng, 30.0, jitter=0.35)
    draw_blobs(rng, texture, ghosts, rng.uniform(5.0, 9.0, (len(ghosts), 2)), 0.0, np.array([30.0, 62.0, 0.0]))
    blurred = np.asarray(cv2.GaussianBlur(texture, (0, 0), 2.2), dtype=np.uint8)
    debris = scattered(rng, 17.0, jitter=0.5)
    x, y = debris.astype(np.int64).T
    debris = debris[palette.coarse()[y, x] + 0.7 * palette.medium()[y, x] > 0.6]
    size_px = rng.gamma(3.0, 0.65, (len(debris), 1)) + 0.7
    semi_axes = size_px * rng.uniform(0.8, 1.25, (len(debris), 2))
    draw_nuclei(rng, blurred, debris, semi_axes, 0.0, chromatin=135.0, spread=30.0, irregularity=0.15)
    return palette.grained(blurred, chromatin=0.15, cytoplasm=0.1)


def blood(palette: Palette) -> NDArray[np.uint8]:
    """Packed red cells, each a little paler in its middle, with a few leucocytes."""
    rng = palette.rng
    texture = palette.ground(3.0, 10 + 3 * palette.medium(), 26 + 7 * palette.medium())
    centres = scattered(rng, 14.5, jitter=0.2)
    axes = rng.normal(6.6, 0.5, (len(centres), 2))
    density = rng.normal(90.0, 10.0, len(centres))
    pink = np.full_like(density, 14.0)
    for inset_px, paleness in ((0.0, 0.0), (3.6, 16.0)):
        stains = np.stack([np.zeros_like(density), pink, density - paleness], axis=1)
        draw_blobs(rng, texture, centres, axes - inset_px, 0.0, stains, irregularity=0.04)
    white_cells = scattered(rng, 150.0, jitter=0.5)
    draw_nuclei(rng, texture, white_cells, rng.normal(5.8, 0.5, (len(white_cells), 2)), 0.0, chromatin=150.0)
    return palette.grained(texture)


def _secretions(
    palette: Palette,
    texture: NDArray[np.uint8],
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    angles: NDArray[np.float64],
) -> None:
    rng = palette.rng
    filled = rng.random(len(centres)) < 0.35
    semi_axes = np.maximum(radii[filled] - rng.uniform(33.0, 50.0, (int(filled.sum()), 1)), 3.0)
    draw_blobs(rng, texture, centres[filled], semi_axes, angles[filled], np.array([6.0, 36.0, 0.0]), irregularity=0.12)


def _columnar_nuclei(
    palette: Palette,
    texture: NDArray[np.uint8],
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    angles: NDArray[np.float64],
    shape_rng: np.random.Generator,
) -> None:
    rng = palette.rng
    phases = shape_rng.uniform(0.0, 2 * np.pi, (2, len(centres), 1))
    places, directions = [], []
    for gland, (centre, radius, angle) in enumerate(zip(centres, radii, angles, strict=True)):
        count = int(2 * np.pi * radius.mean() / 8.2)
        around = np.arange(count) * 2 * np.pi / count + rng.normal(0.0, 0.012, count)
        wobble = 1 + 0.07 * (np.sin(2 * around + phases[0, gland]) + np.sin(3 * around + phases[1, gland]))
        depth_px = 9.5 + np.abs(rng.normal(0.0, 2.6, count))
        along = np.cos(around) * wobble * (radius[0] - depth_px)
        across = np.sin(around) * wobble * (radius[1] - depth_px)
        x, y = along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)
        places.append(centre + np.stack([x, y], axis=1))
        directions.append(np.arctan2(y, x))
    nuclei, towards = np.concatenate(places), np.concatenate(directions)
    semi_axes = rng.normal((8.0, 3.7), (0.9, 0.35), (len(nuclei), 2))
    draw_nuclei(rng, texture, nuclei, semi_axes, towards + rng.normal(0.0, 0.1, len(nuclei)), chromatin=112.0)
