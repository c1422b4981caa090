"""What figures are furnished with: heading, rows of panels, scale bars, colour scales, legend, strips of patches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.figures.canvas import ELONGATED, Canvas, ScaleBar, scale_bar, scale_bar_of
from dtcwsi.explain.figures.page import INK, SOFT, USUAL_PX, Colour, Page
from dtcwsi.explain.figures.painting import attention_colours
from dtcwsi.explain.figures.subject import Subject
from dtcwsi.explain.figures.tags import SMALL, Marked, draw_marks

__all__ = [
    "SMALL",
    "LegendEntry",
    "Panel",
    "Place",
    "ColourScale",
    "colour_scales",
    "draw_bar",
    "headed_page",
    "lay_out",
    "legend",
    "mark",
    "note",
    "plural",
    "section",
    "show_panels",
    "slide_panel",
    "strip",
    "strip_scale",
]

_TITLE = 44.0
_GAP = 28
_BAR = 10
_WIDEST = 2
_FRAME = 9


@dataclass(frozen=True)
class Panel:
    """One picture (height, width, 3) RGB and the words above it."""

    picture: NDArray[np.uint8]
    title: str


@dataclass(frozen=True)
class Place:
    """Where a panel's picture is on the page; its column is ``slot`` wide."""

    left: int
    top: int
    width: int
    height: int
    slot: int


@dataclass(frozen=True)
class LegendEntry:
    """A box and what it means: ``faces`` fill it side by side, ``edge`` frames it, if any (RGB)."""

    text: str
    faces: tuple[Colour, ...]
    edge: Colour | None


@dataclass(frozen=True)
class ColourScale:
    """What the colours from dark to bright show: words at places 0 to 1 along them, and a label."""

    ticks: Sequence[tuple[float, str]]
    label: str


def headed_page(subject: Subject, subtitle: str, *, columns: int) -> Page:
    """Begin a page as wide as ``columns`` panels of the slide; a journal's two columns at least, at most twice that."""
    wide = _columns(subject.canvas, columns) * (subject.canvas.picture.shape[1] + _GAP)
    page = Page(min(max(USUAL_PX, wide), _WIDEST * USUAL_PX))
    bottom = page.write(subject.heading.title, page.margin, page.bottom, page.inner, size=_TITLE, bold=True, lines=3)
    page.write(subtitle, page.margin, bottom, page.inner, colour=SOFT, lines=3)
    return page


def slide_panel(subject: Subject, letter: str = "") -> Panel:
    """Give the slide itself as a panel, or the ground that its patches are drawn on."""
    what = "Patches (no slide file)" if subject.canvas.blank else "Slide"
    return Panel(subject.canvas.picture, f"{letter} {what}".strip())


def lay_out(page: Page, columns: int) -> tuple[list[int], int]:
    """Divide the page into columns.  Returns: where each begins, and their width."""
    gap = page.px(_GAP)
    width = (page.inner - (columns - 1) * gap) // columns
    return [page.margin + number * (width + gap) for number in range(columns)], width


def show_panels(page: Page, canvas: Canvas, panels: Sequence[Panel], *, columns: int) -> list[Place]:
    """Set panels of one size in rows, a scale bar under the first; pictures of long slides stand one a row.

    They are as many pixels as they have, unless the page has no room for that.
    """
    columns = _columns(canvas, columns)
    slots, slot = lay_out(page, columns)
    places: list[Place] = []
    for begin in range(0, len(panels), columns):
        row = panels[begin : begin + columns]
        top = page.bottom + page.px(18)
        lefts = slots[: len(row)]
        for left, panel in zip(lefts, row, strict=True):
            page.write(panel.title, left, top, slot, bold=True, lines=3)
        top = round(page.bottom) + page.px(8)
        places += [
            Place(left, top, *page.show(panel.picture, left, top, _fitting(panel.picture, slot)), slot)
            for left, panel in zip(lefts, row, strict=True)
        ]
    first = places[0]
    draw_bar(page, scale_bar(canvas), places[-1].left if columns == 1 else first.left, first.width)
    return places


def colour_scales(page: Page, places: Sequence[Place], scales: Sequence[ColourScale]) -> None:
    """Draw the colours of some panels under them, with the values at the ticks and what they show."""
    stacked = len({place.left for place in places}) < len(places)
    top, (lefts, width) = page.bottom + page.px(14), lay_out(page, len(scales))
    for place, scale, left in zip(places, scales, lefts, strict=True):
        if stacked:
            _colour_scale(page, scale, left, top, page.px(520), width)
        else:
            _colour_scale(page, scale, place.left, top, max(place.width, page.px(420)), place.slot)


def _colour_scale(page: Page, scale: ColourScale, left: int, top: float, width: int, slot: int) -> None:
    high = page.px(22)
    colours = attention_colours()[np.linspace(0, 100, width).round().astype(int)]
    page.show(np.repeat(colours[None], high, axis=0), left, top)
    below = top + high + page.px(4)
    for at, words in scale.ticks:
        align: Literal["left", "center", "right"] = "left" if at <= 0 else "right" if at >= 1 else "center"
        page.write(words, left + at * width, below, width, size=SMALL, align=align)
    page.write(scale.label, left, below + page.px(40), slot, size=SMALL, colour=SOFT)


def legend(page: Page, entries: Sequence[LegendEntry], *, columns: int = 3) -> None:
    """Say what each colour means, in columns."""
    width = page.inner / columns
    for begin in range(0, len(entries), columns):
        top = page.bottom + page.px(22)
        for number, entry in enumerate(entries[begin : begin + columns]):
            left, side = page.margin + number * width, page.px(38)
            for part, face in enumerate(entry.faces):
                across = side / len(entry.faces)
                page.box(left + part * across, top + page.px(3), across, side, face=face)
            if entry.edge is not None:
                page.box(left, top + page.px(3), side, side, edge=entry.edge, line=page.px(8))
            page.write(entry.text, left + page.px(54), top, width - page.px(80))


def note(page: Page, text: str) -> None:
    """Add a sentence at the foot."""
    if text:
        page.write(text, page.margin, page.bottom + page.px(14), page.inner, size=SMALL, colour=SOFT)


def plural(count: int, noun: str) -> str:
    """Count patches, tokens or stages in words."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"


def section(page: Page, title: str, words: str = "") -> None:
    """Head a part of the page."""
    page.write(title, page.margin, page.bottom + page.px(26), page.inner, bold=True)
    if words:
        page.write(words, page.margin, page.bottom, page.inner, size=SMALL, colour=SOFT)


def strip(
    page: Page,
    crops: Sequence[NDArray[np.uint8]],
    left: float,
    top: float,
    side: int,
    colour: Colour,
    *,
    together: bool = False,
) -> float:
    """Show patches in a row, each in a frame of its own, or all in one frame.  Returns: the right end."""
    left, top = round(left), round(top)
    line = page.px(_FRAME)
    gap = page.px(6) if together else page.px(14)
    for number, crop in enumerate(crops):
        at = left + line + number * (side + gap + (0 if together else 2 * line))
        page.show(crop, at, top + line, (side, side))
        if not together:
            page.box(at - line, top, side + 2 * line, side + 2 * line, edge=colour, line=line)
    if not together:
        return at + side + line
    width = len(crops) * side + (len(crops) - 1) * gap + 2 * line
    page.box(left, top, width, side + 2 * line, edge=colour, line=line)
    return left + width


def strip_scale(page: Page, subject: Subject, left: float, side: int) -> None:
    """Draw the scale of patches that are shown ``side`` pixels wide."""
    draw_bar(page, scale_bar_of(subject.patch_size, subject.canvas.spacing_um), round(left), side)


def mark(page: Page, subject: Subject, place: Place, examples: Sequence[tuple[int, Colour, str]]) -> None:
    """Frame patches where they lie on a panel, each in its colour and with its number, as `draw_marks` does."""
    pixel = subject.canvas.pixel_level0 * subject.canvas.picture.shape[1] / place.width
    side = subject.patch_size / pixel
    line = page.px(_FRAME) if side > page.px(40) else page.px(5)
    reach = max(side, 3.0 * line)
    marks = []
    for patch, colour, number in examples:
        x, y = ((subject.coords[patch] - np.asarray(subject.canvas.origin_level0)) / pixel).tolist()
        left = place.left + min(max(x + (side - reach) / 2, 0), place.width - reach)
        top = place.top + min(max(y + (side - reach) / 2, 0), place.height - reach)
        marks.append(Marked(left, top, reach, colour, number))
    within = (place.left, place.top, place.left + place.width, place.top + place.height)
    draw_marks(page, marks, within, line)


def draw_bar(page: Page, bar: ScaleBar, left: int, width: int) -> None:
    """Draw the scale of a picture ``width`` pixels wide under what is on the page."""
    top, length = page.bottom + page.px(10), bar.share * width
    page.box(left, top + page.px(14), length, page.px(_BAR), face=INK)
    page.write(bar.label, left + length + page.px(12), top, page.inner, size=SMALL)


def _fitting(picture: NDArray[np.uint8], slot: int) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return (width, height) if width <= slot else (slot, max(1, round(height * slot / width)))


def _columns(canvas: Canvas, wanted: int) -> int:
    height, width = canvas.picture.shape[:2]
    return 1 if width > ELONGATED * height else wanted
