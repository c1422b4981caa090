"""What is on a slide besides tissue: marker pen, dust, the grain of the scanner's sensor."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Pen", "add_dust", "draw_pen"]

_INKS = ((0.25, 0.42, 0.86), (0.20, 0.62, 0.36), (0.20, 0.20, 0.24))


@dataclass(frozen=True)
class Pen:
    """Strokes of a marker: ``cover`` 0..1 on coarse cells; ``passes`` is the ink's transmission of red, green, blue."""

    cover: NDArray[np.float32]
    passes: tuple[float, float, float]


def draw_pen(rng: np.random.Generator, cells: int, *, chance: float = 0.35) -> Pen | None:
    """Draw, on some slides, one or two strokes of a blue, green or black marker on (cells, cells)."""
    if rng.random() >= chance:
        return None
    passes = _INKS[rng.integers(len(_INKS))]
    return Pen(np.maximum.reduce([_stroke(rng, cells) for _ in range(rng.integers(1, 3))]), passes)


def add_dust(rng: np.random.Generator, rgb: NDArray[np.uint8]) -> None:
    """Sprinkle out-of-focus specks and a fibre or two, in place."""
    side = len(rgb)
    for _ in range(rng.poisson(10.0 * (side / 4096) ** 2)):
        radius = int(rng.integers(3, 16))
        y, x = rng.integers(3 * radius, side - 3 * radius, 2)
        box = rgb[y - 3 * radius : y + 3 * radius, x - 3 * radius : x + 3 * radius]
        speck = np.zeros(box.shape[:2], np.float32)
        axes = (radius, max(2, int(radius * rng.uniform(0.4, 1.0))))
        cv2.ellipse(speck, (3 * radius, 3 * radius), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        shade = 1 - rng.uniform(0.25, 0.75) * cv2.GaussianBlur(speck, (0, 0), 0.35 * radius)
        box[...] = np.clip(box * shade[..., None], 0, 255).astype(np.uint8)


def _stroke(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """A hand-drawn arc around the tissue."""
    cover = np.zeros((cells, cells), np.float32)
    steps = np.linspace(0.0, rng.uniform(1.2, 4.5), 40) + rng.uniform(0, 2 * np.pi)
    radius = cells * rng.uniform(0.36, 0.56) * (1 + 0.05 * np.sin(2.3 * steps + rng.uniform(0, 6)))
    centre = cells * rng.uniform(0.4, 0.6, 2)
    points = centre + radius[:, None] * np.stack([np.cos(steps), np.sin(steps)], axis=1)
    width = max(1, round(cells * rng.uniform(0.016, 0.03)))
    darkness = float(rng.uniform(0.75, 0.98))
    cv2.polylines(cover, [np.round(points * 16).astype(np.int32)], False, darkness, width, cv2.LINE_8, 4)
    streaks = np.clip(rng.normal(0.92, 0.07, cover.shape), 0.0, 1.0)
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), 0.7) * streaks, dtype=np.float32)
