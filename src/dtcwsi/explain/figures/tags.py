"""Numbered frames: which patch on a slide is which of the patches shown beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dtcwsi.explain.figures.page import Colour, Page

__all__ = ["SMALL", "Marked", "draw_marks"]

SMALL = 29.0  # 7 points
_TAG = 40
_PADDING = 7
_WHITE = (255, 255, 255)
_INSIDE = 64  # frames from this size on have their number in their corner

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marked:
    """A frame on the page at ``left``, ``top``, ``side`` wide, and the number that belongs to it."""

    left: float
    top: float
    side: float
    colour: Colour
    number: str


def draw_marks(page: Page, marks: Sequence[Marked], within: _Box, line: int) -> None:
    """Draw frames and their numbers: in the corner of large ones, beside small ones where least is covered.

    ``within`` is (left, top, right, bottom), which no number leaves. One that would lie on another is left out.
    """
    for one in marks:
        page.box(one.left, one.top, one.side, one.side, edge=one.colour, line=line)
    frames = [(one.left, one.top, one.left + one.side, one.top + one.side) for one in marks]
    tags: list[_Box] = []
    for one in marks:
        width, height = _width(page, one.number), float(page.px(_TAG))
        boxes = [(one.left, one.top, one.left + width, one.top + height)]
        if one.side < page.px(_INSIDE):
            boxes = [_kept_within(box, within) for box in _beside(one, width, height, page.px(4))]
        free = [box for box in boxes if not any(_shared(box, other) for other in tags)]
        if free:
            tags.append(min(free, key=lambda box: sum(_shared(box, other) for other in frames)))
            left, top = tags[-1][:2]
            page.box(left, top, width, height, face=one.colour)
            page.write(one.number, left + page.px(_PADDING), top, page.inner, size=SMALL, bold=True, colour=_WHITE)


def _width(page: Page, number: str) -> float:
    return page.length_of(number, size=SMALL, bold=True) + page.px(2 * _PADDING)


def _beside(one: Marked, width: float, height: float, gap: float) -> Iterator[_Box]:
    """Places around a frame, the nearest first."""
    middle_x, middle_y = one.left + (one.side - width) / 2, one.top + (one.side - height) / 2
    for ring in range(3):
        away_x, away_y = gap + ring * width, gap + ring * height
        right, left = one.left + one.side + away_x, one.left - width - away_x
        below, above = one.top + one.side + away_y, one.top - height - away_y
        for x, y in (
            (right, middle_y),
            (left, middle_y),
            (middle_x, above),
            (middle_x, below),
            (right, above),
            (right, below),
            (left, above),
            (left, below),
        ):
            yield x, y, x + width, y + height


def _kept_within(box: _Box, within: _Box) -> _Box:
    width, height = box[2] - box[0], box[3] - box[1]
    left = float(np.clip(box[0], within[0], max(within[0], within[2] - width)))
    top = float(np.clip(box[1], within[1], max(within[1], within[3] - height)))
    return left, top, left + width, top + height


def _shared(box: _Box, other: _Box) -> float:
    """The area that two boxes share."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height)
