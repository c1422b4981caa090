"""Tissues that hold others together: collagen, smooth muscle, loose stroma, fat."""

import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.noise import smooth_noise, warped
from dtcwsi.slides.synthetic.palette import Palette
from dtcwsi.slides.synthetic.shapes import TEXTURE_PX, cell_walls, draw_nuclei, scattered

__all__ = ["adipose", "empty", "fibrous_stroma", "loose_stroma", "smooth_muscle"]


def fibrous_stroma(palette: Palette) -> NDArray[np.uint8]:
    """Wavy pink collagen with clefts and thin spindle nuclei."""
    rng = palette.rng
    fibres = smooth_noise(rng, TEXTURE_PX, (5.0, 110.0))
    bundles = smooth_noise(rng, TEXTURE_PX, (22.0, 260.0))
    clefts = np.clip((smooth_noise(rng, TEXTURE_PX, (9.0, 150.0)) + 0.5 * bundles - 1.35) * 2.2, 0, 1)
    eosin = (70 + 11 * fibres + 11 * bundles + 3 * palette.fine()) * (1 - 0.8 * clefts)
    texture = palette.ground(7 + 2 * fibres, eosin)
    _spindle_nuclei(palette, texture, spacing_px=46.0, length_px=11.0, width_px=2.4)
    return _waved(palette, palette.grained(texture, cytoplasm=0.07), height_px=30.0)


def loose_stroma(palette: Palette) -> NDArray[np.uint8]:
    """Pale oedematous ground with single fibres, stellate nuclei and a few lymphocytes."""
    rng = palette.rng
    strands = np.exp(-((smooth_noise(rng, TEXTURE_PX, (16.0, 60.0)) / 0.35) ** 2))
    eosin = 17 + 30 * strands + 5 * palette.medium()
    texture = palette.ground(9 + 4 * palette.coarse(), eosin)
    _spindle_nuclei(palette, texture, spacing_px=52.0, length_px=8.5, width_px=3.0, tilt=0.8)
    cells = scattered(rng, 90.0, jitter=0.5)
    draw_nuclei(rng, texture, cells, rng.normal(5.6, 0.5, (len(cells), 2)), 0.0, chromatin=150.0)
    return _waved(palette, palette.grained(texture), height_px=34.0)


def smooth_muscle(palette: Palette) -> NDArray[np.uint8]:
    """Dense eosinophilic bundles with blunt, cigar-shaped nuclei."""
    rng = palette.rng
    fibres = smooth_noise(rng, TEXTURE_PX, (7.0, 200.0))
    fascicles = np.exp(-((smooth_noise(rng, TEXTURE_PX, (60.0, 420.0)) / 0.1) ** 2))
    eosin = (84 + 7 * fibres + 5 * palette.medium()) * (1 - 0.65 * fascicles)
    texture = palette.ground(13 + 2 * fibres, eosin)
    _spindle_nuclei(palette, texture, spacing_px=36.0, length_px=11.5, width_px=3.1, tilt=0.06)
    return _waved(palette, palette.grained(texture, cytoplasm=0.06), height_px=12.0)


def adipose(palette: Palette) -> NDArray[np.uint8]:
    """Empty vacuoles between thin pink septa with flattened nuclei."""
    rng = palette.rng
    centres = scattered(rng, 128.0, jitter=0.17)
    walls = cell_walls(centres, width_px=2.6)
    texture = palette.ground(2 + 9 * walls, 2 + walls * (52 + 9 * palette.medium()))
    on_wall = np.argwhere(walls > 0.9)[:, ::-1].astype(np.float64)
    nuclei = on_wall[rng.integers(0, len(on_wall), 90)]
    gradient_y, gradient_x = np.gradient(walls, axis=0), np.gradient(walls, axis=1)
    at = nuclei.astype(np.int64)
    along = np.arctan2(gradient_y[at[:, 1], at[:, 0]], gradient_x[at[:, 1], at[:, 0]]) + np.pi / 2
    draw_nuclei(rng, texture, nuclei, rng.normal((7.5, 2.2), (1.2, 0.3), (len(nuclei), 2)), along, chromatin=125.0)
    bend = 9.0 * palette.coarse()
    return warped(palette.grained(texture), bend, 9.0 * palette.coarse())


def empty(palette: Palette) -> NDArray[np.uint8]:
    """Nothing but glass: the lumen of a vessel."""
    return palette.ground(1.0, 2.0)


def _spindle_nuclei(
    palette: Palette,
    texture: NDArray[np.uint8],
    *,
    spacing_px: float,
    length_px: float,
    width_px: float,
    tilt: float = 0.14,
) -> None:
    rng = palette.rng
    centres = scattered(rng, spacing_px, jitter=0.45)
    semi_axes = np.abs(rng.normal((length_px, width_px), (0.22 * length_px, 0.18 * width_px), (len(centres), 2)))
    angles = rng.normal(0.0, tilt, len(centres))
    draw_nuclei(rng, texture, centres, semi_axes, angles, chromatin=118.0, irregularity=0.05)


def _waved(palette: Palette, texture: NDArray[np.uint8], *, height_px: float) -> NDArray[np.uint8]:
    long_waves = smooth_noise(palette.rng, TEXTURE_PX, 280.0)
    return warped(texture, height_px * long_waves + 0.24 * height_px * palette.coarse())
