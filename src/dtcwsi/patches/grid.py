"""Non-overlapping square patches inside the tissue, in the order of a Hilbert curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import OptionError, SpacingError
from dtcwsi.nn.order import spatial_order
from dtcwsi.patches.regions import Region
from dtcwsi.types import PatchGrid, Polygon, SlideInfo, TissueMask

__all__ = ["GridParameters", "make_grid"]

_SAMPLES = 8
_MAX_ENLARGEMENT = 1.25
_MOST_PX = 16_384


@dataclass(frozen=True)
class GridParameters:
    """Which patches are cut: ``patch_size_px`` pixels of ``patch_spacing_um``, with enough tissue (0 to 1) in them."""

    patch_size_px: int = 256
    patch_spacing_um: float = 0.5
    min_tissue_fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 8 <= self.patch_size_px <= _MOST_PX:
            raise OptionError(
                f"patch_size_px is {self.patch_size_px}; expected at least 8 pixels, at most {_MOST_PX:,}"
            )
        if not 0.05 <= self.patch_spacing_um <= 20:
            raise OptionError(f"patch_spacing_um is {self.patch_spacing_um:g}; expected 0.05 to 20 um/px")
        if not 0 < self.min_tissue_fraction <= 1:
            raise OptionError(f"min_tissue_fraction is {self.min_tissue_fraction:g}; expected more than 0, at most 1")


def make_grid(info: SlideInfo, mask: TissueMask, parameters: GridParameters, region: Region | None = None) -> PatchGrid:
    """Lay the grid over a slide and keep the whole patches with enough tissue, of a region if one is given.

    The grid starts at level-0 pixel (0, 0), so that edited tissue parameters never shift it. The tissue fraction of a
    patch is taken at 8 x 8 points; with a region only tissue inside it counts. A patch's side is rounded to whole
    level-0 pixels.
    Memory: 128 bytes a grid cell of the slide.
    Raises: SpacingError if the slide is too coarse for the um/px asked for.  Source: Appendix A.
    """
    ratio = parameters.patch_spacing_um / info.spacing_um
    if ratio * _MAX_ENLARGEMENT < 1:
        raise SpacingError(
            f"{info.path.name!r} has {info.spacing_um:g} um/px, too coarse for patches of "
            f"{parameters.patch_spacing_um:g} um/px; pass a --patch-spacing of at least {info.spacing_um:g}"
        )
    step = max(1, round(parameters.patch_size_px * ratio))
    columns, rows = info.width_px // step, info.height_px // step
    inside = _inside(mask, step, (rows * _SAMPLES, columns * _SAMPLES))
    if region is not None:
        _restrict(inside, region, step)
    fraction = inside.reshape(rows, _SAMPLES, columns, _SAMPLES).mean(axis=(1, 3))
    row, column = np.nonzero(fraction >= parameters.min_tissue_fraction)
    coords = np.stack([column, row], axis=1).astype(np.int64) * step
    order = spatial_order(coords, step)
    return PatchGrid(
        coords=coords[order],
        tissue_fraction=fraction[row, column][order].astype(np.float32),
        patch_size_px=parameters.patch_size_px,
        patch_size_level0=step,
        spacing_um=parameters.patch_spacing_um,
    )


def _inside(mask: TissueMask, step: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which sample points, 8 a patch's side, lie in tissue."""
    if mask.may_overlap:
        return _inside_any(mask.polygons, step, shape)
    rings = [ring * (_SAMPLES / step) for piece in mask.polygons for ring in (piece.outer, *piece.holes)]
    return _inside_odd(rings, shape)


def _restrict(inside: NDArray[np.bool_], region: Region, step: int) -> None:
    """Keep the sample points of a region, in place."""
    if region.within is not None:
        inside &= _inside_any(region.within, step, inside.shape)
    inside &= ~_inside_any(region.without, step, inside.shape)


def _inside_any(polygons: Sequence[Polygon], step: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which sample points lie in a polygon or several, each looked at within its own box."""
    inside = np.zeros(shape, bool)
    for piece in polygons:
        rings = [ring * (_SAMPLES / step) for ring in (piece.outer, *piece.holes)]
        left, top = np.clip(np.floor(rings[0].min(axis=0)), 0, shape[::-1]).astype(np.int64)
        right, bottom = np.clip(np.ceil(rings[0].max(axis=0)), 0, shape[::-1]).astype(np.int64)
        box = inside[top:bottom, left:right]
        box |= _inside_odd([ring - (left, top) for ring in rings], box.shape)
    return inside


def _inside_odd(rings: Sequence[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which sample points lie in an odd number of rings."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for ring in rings if crossings[:, :-1].size else ():
        _cross(crossings, ring)
    odd = np.add.accumulate(crossings, axis=1, out=crossings)[:, :-1] & 1
    return np.asarray(odd, bool)


def _cross(crossings: NDArray[np.uint8], ring: NDArray[np.float64]) -> None:
    """Count in each row of sample points (their centres at x.5, y.5) where the ring is crossed on the way right.

    Points are inside after an odd number of crossings; unlike drawing, this has no width that adds to the tissue.
    """
    start, end = ring, np.roll(ring, -1, axis=0)
    first, last = (np.ceil(function(start[:, 1], end[:, 1]) - 0.5) for function in (np.minimum, np.maximum))
    first, last = (np.clip(rows, 0, len(crossings)).astype(np.int64) for rows in (first, last))
    count = last - first
    edge = np.repeat(np.arange(len(ring)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(x - 0.5), 0, crossings.shape[1] - 1).astype(np.int64)
    np.add.at(crossings, (row, column), 1)
