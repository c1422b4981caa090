"""Where on the slide each tissue lies, drawn on a grid of 16 px and independent of the label."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.noise import smooth_noise
from dtcwsi.slides.synthetic.spec import SyntheticSlide

__all__ = ["CELL_PX", "FAR_PX", "Layout", "Region", "draw_layout"]

CELL_PX = 16
_REGION_PX = 620.0
FAR_PX = 10_000.0
RAGGED_REACH = 3.0
"""Bound of the noise that moves borders, in units of a region's raggedness."""

EDGE_SOFTNESS_PX = 8.0
EDGE_RAGGEDNESS_PX = 12.0
EDGE_REACH_PX = EDGE_SOFTNESS_PX / 2 + RAGGED_REACH * EDGE_RAGGEDNESS_PX
"""How far from its outline the tissue can reach."""


# Log odds of each tissue in a region; the reference from which patients and slides depart.
_COMMONNESS = {
    "fibrous_stroma": 0.9,
    "loose_stroma": 0.3,
    "smooth_muscle": 0.0,
    "adipose": -0.9,
    "glands": 0.8,
    "lymphocytes": 0.0,
    "necrosis": -0.3,
    "blood": -1.3,
}
_MOST_ADIPOSE = 0.2
_GROUND = ("fibrous_stroma", "loose_stroma", "smooth_muscle")
# Width of the transition in px, and how far single cells stray across it.
_BORDERS = {
    "adipose": (6.0, 10.0),
    "glands": (6.0, 14.0),
    "lymphocytes": (8.0, 40.0),
    "necrosis": (70.0, 40.0),
    "blood": (10.0, 36.0),
    "lesion": (5.0, 12.0),
}


@dataclass(frozen=True)
class Region:
    """One area of one tissue.

    ``inside_px`` holds the signed distance to its border, positive inside, on the cells from ``row``, ``column`` on.
    ``softness_px`` is the width of the border, ``raggedness_px`` how far noise moves it. ``angle`` and ``offset_px``
    say which part of the tissue's texture it shows.
    """

    tissue: str
    row: int
    column: int
    inside_px: NDArray[np.float32]
    softness_px: float
    raggedness_px: float
    angle: float
    offset_px: tuple[float, float]

    @property
    def reach_px(self) -> float:
        """How far from its border the region can be seen."""
        return self.softness_px / 2 + RAGGED_REACH * self.raggedness_px


@dataclass(frozen=True)
class Layout:
    """A slide on a grid of 16 px cells: its outline, thickness, bend of fibres and regions in painting order.

    ``inside_px`` is the signed distance to the edge of the tissue; ``bend_px`` (2, rows, columns) displaces textures.
    """

    inside_px: NDArray[np.float32]
    thickness: NDArray[np.float32]
    bend_px: NDArray[np.float32]
    regions: tuple[Region, ...]
    lesion: Region


def draw_layout(slide: SyntheticSlide) -> Layout:
    """Draw the outline of the tissue, divide it into regions and choose where the lesion is."""
    rng = slide.rng("layout")
    cells = slide.side_px // CELL_PX
    tissue = _fragments(rng, cells)
    inside_px = np.minimum(_signed_distance(tissue), _beside_cracks(rng, cells))
    bend = np.stack([smooth_noise(rng, cells, 900.0 / CELL_PX) for _ in range(2)]) * 38.0
    ground, others = _regions(slide, rng, tissue)
    vessels = [part for _ in range(rng.poisson(4.0)) for part in _vessel(rng, inside_px)]
    lesion = _lesion(slide, inside_px)
    return Layout(inside_px, _thickness(slide, inside_px), bend, (*ground, *others, *vessels), lesion)


def _fragments(rng: np.random.Generator, cells: int) -> NDArray[np.bool_]:
    y, x = (np.indices((cells, cells), dtype=np.float32) + 0.5) / cells
    height = np.full((cells, cells), -FAR_PX, np.float32)
    for _ in range(rng.integers(1, 4)):
        centre_y, centre_x = rng.uniform(0.34, 0.66, 2)
        radius_y, radius_x = rng.uniform(0.26, 0.5, 2)
        height = np.maximum(height, -np.hypot((y - centre_y) / radius_y, (x - centre_x) / radius_x))
    height += 0.16 * smooth_noise(rng, cells, cells / 3) + 0.07 * smooth_noise(rng, cells, cells / 8)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    height -= 1.5 * np.exp(-edge / 0.05)
    return np.asarray(height > np.quantile(height, 1 - rng.uniform(0.44, 0.58)))


def _beside_cracks(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Distance in px, roughly, to the nearest crack of the section; negative in it."""
    middle, width = smooth_noise(rng, cells, 70.0), smooth_noise(rng, cells, 50.0)
    distance_px = 280.0 * np.abs(middle) + np.where(width > 0.9, 0.0, 2000.0 * np.clip(0.9 - width, 0.0, 1.0))
    return np.asarray(distance_px - 22.0 * np.clip(width - 0.4, 0.0, 2.0), dtype=np.float32)


def _regions(
    slide: SyntheticSlide, rng: np.random.Generator, tissue: NDArray[np.bool_]
) -> tuple[list[Region], list[Region]]:
    owner, centres = _territories(rng, len(tissue))
    odds = _composition(slide)
    names = list(odds)
    scores = np.stack([odds[name] + 1.1 * _sampled(smooth_noise(rng, len(tissue), 95.0), centres) for name in names])
    ground = []
    for territory in np.unique(owner[tissue]):
        under = _GROUND[scores[: len(_GROUND), territory].argmax()]
        inside_px = _signed_distance(owner == territory) + 34.0
        ground.append(_region(rng, under, inside_px, softness_px=60.0, raggedness_px=0.0))
    shown = scores.argmax(axis=0)[owner]
    others = []
    for number in range(len(_GROUND), len(names)):
        parts = cv2.connectedComponents((shown == number).astype(np.uint8))[1]
        for part in np.unique(parts[tissue & (parts > 0)]):
            softness_px, raggedness_px = _BORDERS[names[number]]
            inside_px = _signed_distance(parts == part)
            others.append(_region(rng, names[number], inside_px, softness_px=softness_px, raggedness_px=raggedness_px))
    return ground, others


def _territories(rng: np.random.Generator, cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Divide the slide into wavy polygons; returns each cell's polygon, and the polygons' centres (n, 2) as y, x."""
    spacing = _REGION_PX / CELL_PX
    per_side = int(cells / spacing) + 2
    lattice = (np.indices((per_side, per_side)).reshape(2, -1).T - 0.5) * spacing
    centres = lattice + rng.normal(0.0, 0.28 * spacing, lattice.shape)
    place = np.indices((cells, cells), dtype=np.float32)
    wavy = place + np.stack([smooth_noise(rng, cells, 24.0) for _ in range(2)]) * 4.0
    squared = ((wavy[:, None] - centres.T[:, :, None, None].astype(np.float32)) ** 2).sum(axis=0)
    return squared.argmin(axis=0), centres


def _composition(slide: SyntheticSlide) -> dict[str, float]:
    patient_rng, slide_rng = slide.patient_rng("composition"), slide.rng("composition")
    odds = {
        name: common + slide.nuisance * (patient_rng.normal(0.0, 1.0) + slide_rng.normal(0.0, 0.5))
        for name, common in _COMMONNESS.items()
    }
    # Fat is mostly glass: a slide full of it would hardly have patches.
    return {**odds, "adipose": min(odds["adipose"], _MOST_ADIPOSE)}


def _vessel(rng: np.random.Generator, inside_px: NDArray[np.float32]) -> Iterator[Region]:
    where = np.argwhere(inside_px > 120.0)
    if not len(where):
        return
    centre_y, centre_x = where[rng.integers(len(where))]
    y, x = (np.indices(inside_px.shape, dtype=np.float32) - np.array([centre_y, centre_x])[:, None, None]) * CELL_PX
    angle, stretch = rng.uniform(0.0, np.pi), rng.uniform(1.0, 1.7)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius_px = rng.uniform(45.0, 110.0)
    outside_px = np.hypot(along / stretch, across).astype(np.float32)
    yield _region(rng, "smooth_muscle", radius_px - outside_px, softness_px=14.0, raggedness_px=8.0)
    lumen_px = radius_px * rng.uniform(0.5, 0.75) - outside_px
    yield _region(rng, "glass", lumen_px, softness_px=4.0, raggedness_px=4.0)
    yield _region(rng, "blood", lumen_px - 3.0, softness_px=6.0, raggedness_px=rng.uniform(4.0, 30.0))


def _lesion(slide: SyntheticSlide, inside_px: NDArray[np.float32]) -> Region:
    """Grow one or two foci until they cover the slide's share of the tissue exactly."""
    rng = slide.rng("lesion place")
    share = rng.uniform(0.9, 1.1) * (0.068 - 0.041 * slide.difficulty)
    foci = 1 + int(rng.random() < slide.difficulty - 0.5)
    deep = inside_px > min(150.0, 0.6 * float(inside_px.max()))
    candidates = np.argwhere(deep)
    place = np.indices(inside_px.shape, dtype=np.float32)
    reach = np.full(inside_px.shape, -FAR_PX, np.float32)
    for number in range(foci):
        centre = candidates[rng.integers(len(candidates))].astype(np.float32)
        distance = np.hypot(*(place - centre[:, None, None])) * CELL_PX
        reach = np.maximum(reach, -distance * (1.0 if number == 0 else rng.uniform(1.1, 1.6)))
    reach += 70.0 * smooth_noise(rng, len(inside_px), 20.0)
    reach[inside_px < 24.0] = -FAR_PX
    wanted = max(1, round(share * int((inside_px > 0).sum())))
    mask = reach >= np.partition(reach.ravel(), -wanted)[-wanted]
    softness_px, raggedness_px = _BORDERS["lesion"]
    return _region(rng, slide.label, _signed_distance(mask), softness_px=softness_px, raggedness_px=raggedness_px)


def _thickness(slide: SyntheticSlide, inside_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much stained matter lies above each cell: uneven, denser at the edges, double where the section is folded."""
    rng = slide.rng("thickness")
    cells = len(inside_px)
    thickness = 1.0 + 0.07 * smooth_noise(rng, cells, 60.0) + 0.22 * np.exp(-np.clip(inside_px, 0, None) / 40.0)
    if rng.random() < 0.3:
        fold = np.abs(smooth_noise(rng, cells, 90.0)) < 0.025
        here = smooth_noise(rng, cells, 120.0) > 0.6
        thickness += 0.7 * cv2.GaussianBlur((fold & here).astype(np.float32), (0, 0), 0.8)
    return np.asarray(np.clip(thickness, 0.6, 2.0), dtype=np.float32)


def _region(
    rng: np.random.Generator,
    tissue: str,
    inside_px: NDArray[np.float32],
    *,
    softness_px: float,
    raggedness_px: float,
) -> Region:
    reached = inside_px > -(softness_px / 2 + RAGGED_REACH * raggedness_px + CELL_PX)
    rows, columns = np.flatnonzero(reached.any(axis=1)), np.flatnonzero(reached.any(axis=0))
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
    left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
    offset_y, offset_x = rng.uniform(0.0, 4096.0, 2)
    return Region(
        tissue=tissue,
        row=top,
        column=left,
        inside_px=np.ascontiguousarray(inside_px[top:bottom, left:right], dtype=np.float32),
        softness_px=softness_px,
        raggedness_px=raggedness_px,
        angle=float(rng.uniform(0.0, 2 * np.pi)),
        offset_px=(float(offset_y), float(offset_x)),
    )


def _sampled(field: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    y, x = np.clip(places.astype(np.int64), 0, len(field) - 1).T
    return np.asarray(field[y, x], dtype=np.float32)


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance to the border of ``mask`` in px, positive inside."""
    inside, outside = mask.astype(np.uint8), (~mask).astype(np.uint8)
    cells = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(outside, cv2.DIST_L2, 5)
    return np.asarray(CELL_PX * np.clip(cells, -FAR_PX / CELL_PX, FAR_PX / CELL_PX), dtype=np.float32)
