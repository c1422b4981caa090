"""Rasters of a slide's patches: attention, merge groups, what pruning leaves.

All work on whole pictures, so that 100,000 patches cost little more than ten.
"""

from itertools import chain, count

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import KEPT, MERGED, PRUNED, PatchFates
from dtcwsi.explain.figures.canvas import Canvas

__all__ = [
    "ATTENTION_MAP",
    "DARKEST",
    "FATE_COLOURS",
    "GROUP_COLOURS",
    "attention_colours",
    "paint_attention",
    "paint_groups",
    "paint_pruning",
    "paint_stage",
    "paint_values",
    "pale_ground",
]

ATTENTION_MAP = "viridis"
PALE = 0.65  # share of white over what no patch shows
DARKEST = 0.45  # share of a colour that is left over black, so that it stays readable over dark tissue
FATE_COLOURS = {"kept": (0, 158, 115), "merged": (0, 114, 178), "pruned": (213, 94, 0)}
"""RGB of each fate, told apart by colour-blind readers too (Okabe and Ito's green, blue and vermilion)."""

GROUP_COLOURS = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (136, 34, 85),
        (240, 228, 66),
        (51, 34, 136),
        (0, 114, 178),
        (213, 94, 0),
        (153, 153, 51),
        (190, 160, 240),
        (120, 60, 20),
    ],
    np.uint8,
)
_GONE = np.array((38, 42, 50), np.float32)
_LEGIBLE_PX = 5


def attention_colours() -> NDArray[np.uint8]:
    """Give the 101 RGB colours of percentiles 0 to 100."""
    colours = matplotlib.colormaps[ATTENTION_MAP](np.linspace(0, 1, 101))[:, :3]
    return np.round(colours * 255).astype(np.uint8)


def paint_attention(canvas: Canvas, owner: NDArray[np.int32], fates: PatchFates) -> NDArray[np.uint8]:
    """Tint every patch with attention by its percentile; see `paint_values`."""
    return paint_values(canvas, owner, fates.percentile, fates.attention > 0)


def paint_values(
    canvas: Canvas, owner: NDArray[np.int32], percent: NDArray[np.float64], shown: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Tint the patches that are ``shown`` (N,) by their place on the colour scale, ``percent`` (N,) 0 to 100.

    The slide is grey, so that no stain reads as a value; other patches stay so, and what no patch shows is pale.
    """
    grey = pale_ground(canvas.picture, owner >= 0)
    drawn = np.repeat(np.round(grey)[..., None], 3, axis=2)
    tinted = _where(owner, shown)
    colour = attention_colours()[np.round(percent).astype(int)]
    light = DARKEST + (1 - DARKEST) * grey[tinted] / 255
    drawn[tinted] = colour[owner[tinted]] * light[:, None]
    return np.round(drawn).astype(np.uint8)


def pale_ground(picture: NDArray[np.uint8], cut: NDArray[np.generic]) -> NDArray[np.float32]:
    """Make a picture (height, width, 3) RGB grey (height, width), and pale where no patch was cut.

    ``cut`` (height, width) is the share of each pixel under patches: what a model never saw must not look pruned.
    """
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)
    return np.asarray(grey + PALE * (1 - cut.astype(np.float32)) * (255 - grey), np.float32)


def paint_groups(canvas: Canvas, owner: NDArray[np.int32], fates: PatchFates) -> NDArray[np.uint8]:
    """Give merged patches one interior and one border a group: the group's mean tissue colour, tinted, and the tint.

    Groups that were pruned later are drawn too. Groups that touch never have the same tint. Patches that never merged
    keep their tissue and get a thin outline in the colour of what is kept.
    """
    drawn = canvas.picture.astype(np.float32)
    if not len(fates):
        return canvas.picture.copy()
    group = np.where(owner >= 0, fates.group[owner], -1).astype(np.int32)
    together = _where(owner, fates.group_size > 1)
    tint = _colours(_tints(np.where(together, group, -1), np.unique(fates.group, return_index=True)[1]))
    mean = _means(canvas.picture, group, len(fates))
    inside = group[together]
    drawn[together] = 0.5 * mean[inside] + 0.5 * tint[inside]
    border = _border_px(owner, len(fates))
    framed = _edges(group, border) & together
    drawn[framed] = tint[group[framed]]
    drawn[_edges(group, (border + 1) // 2) & (owner >= 0) & ~together] = FATE_COLOURS["kept"]
    return np.round(drawn).astype(np.uint8)


def paint_pruning(canvas: Canvas, owner: NDArray[np.int32], fates: PatchFates) -> NDArray[np.uint8]:
    """Darken what was pruned; outline what is left, patches kept alone in green and merged tokens in blue."""
    if not len(fates):
        return canvas.picture.copy()
    drawn = _darkened(canvas.picture, owner, fates)
    group = np.where(owner >= 0, fates.group[owner], -1).astype(np.int32)
    border = _edges(group, _border_px(owner, len(fates)))
    for fate, name in ((KEPT, "kept"), (MERGED, "merged")):
        drawn[border & _where(owner, fates.fate == fate)] = FATE_COLOURS[name]
    return drawn


def paint_stage(canvas: Canvas, owner: NDArray[np.int32], fates: PatchFates) -> NDArray[np.uint8]:
    """Show groups in colours as `paint_groups` does, and what was pruned dark."""
    return _darkened(paint_groups(canvas, owner, fates), owner, fates)


def _darkened(picture: NDArray[np.uint8], owner: NDArray[np.int32], fates: PatchFates) -> NDArray[np.uint8]:
    drawn = picture.copy()
    gone = _where(owner, fates.fate == PRUNED)
    drawn[gone] = np.round(0.12 * drawn[gone] + 0.88 * _GONE)
    return drawn


def _where(owner: NDArray[np.int32], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose patch is one of the chosen."""
    return np.asarray(np.append(chosen, False)[owner])


def _border_px(owner: NDArray[np.int32], n_patches: int) -> int:
    """How thick outlines may be: none where patches are only a few pixels wide."""
    side = float(np.sqrt((owner >= 0).sum() / max(1, n_patches)))
    return 0 if side < _LEGIBLE_PX else min(4, max(1, round(side / 14)))


def _edges(label: NDArray[np.int32], thickness: int) -> NDArray[np.bool_]:
    """Pixels less than ``thickness`` away from another label or the picture's rim, across or down."""
    edge = np.zeros(label.shape, np.bool_)
    rim = np.pad(label, thickness, constant_values=-2)
    height, width = label.shape
    for step in range(1, thickness + 1):
        for down, across in ((step, 0), (-step, 0), (0, step), (0, -step)):
            top, left = thickness + down, thickness + across
            edge |= rim[top : top + height, left : left + width] != label
    return edge


def _means(picture: NDArray[np.uint8], group: NDArray[np.int32], n_groups: int) -> NDArray[np.float32]:
    """Mean colour of each group, (groups, 3)."""
    index = (group + 1).ravel()
    count = np.bincount(index, minlength=n_groups + 1)
    sums = [np.bincount(index, picture[..., channel].ravel(), n_groups + 1) for channel in range(3)]
    return np.asarray((np.stack(sums, axis=1) / np.maximum(count, 1)[:, None])[1:], np.float32)


def _tints(group: NDArray[np.int32], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number each group's colour so that it differs from those of the groups that it touches.

    ``first`` (groups,) is each group's first patch, which decides where there is a choice: groups that grow from stage
    to stage mostly keep their colour. Numbers beyond the palette are given out only where groups are scattered so that
    one touches all its colours.
    """
    neighbours: dict[int, list[int]] = {}
    for low, high in _touching(group).tolist():
        neighbours.setdefault(high, []).append(low)
    palette = len(GROUP_COLOURS)
    tint = [0] * len(first)
    for index, patch in enumerate(first.tolist()):
        taken = {tint[other] for other in neighbours.get(index, ())}
        wanted = (patch * 7) % palette
        choices = chain(((wanted + step) % palette for step in range(palette)), count(palette))
        tint[index] = next(choice for choice in choices if choice not in taken)
    return np.asarray(tint, np.int64)


def _colours(tint: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give numbered colours (groups, 3): the palette, then ever lighter and darker shades of it."""
    step, base = np.divmod(tint, len(GROUP_COLOURS))
    share = (1 - 0.75**step)[:, None] * 0.8
    ground = np.where(step % 2, 255.0, 0.0)[:, None]
    return np.asarray((1 - share) * GROUP_COLOURS[base] + share * ground, np.float32)


def _touching(group: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pairs (pairs, 2) of different groups that share an edge or a corner, the lower number first."""
    many = int(group.max(initial=0)) + 1
    keys = []
    for one, other in (
        (group[:, :-1], group[:, 1:]),
        (group[:-1], group[1:]),
        (group[:-1, :-1], group[1:, 1:]),
        (group[:-1, 1:], group[1:, :-1]),
    ):
        meet = (one != other) & (one >= 0) & (other >= 0)
        low, high = np.minimum(one[meet], other[meet]), np.maximum(one[meet], other[meet])
        keys.append(np.unique(low.astype(np.int64) * many + high))
    return np.stack(np.divmod(np.unique(np.concatenate(keys)), many), axis=1)
