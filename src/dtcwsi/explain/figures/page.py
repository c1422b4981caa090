"""Figures: panels side by side at one pixel a pixel, with titles, scale bar and a legend in words."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from dtcwsi.explain.figures.canvas import ScaleBar

__all__ = ["ColourBar", "LegendEntry", "Panel", "draw_figure"]

_DPI = 100
_MARGIN, _GAP, _HEADER, _FOOTER = 28, 24, 112, 124
_FEWEST_PX = 420
_USUAL_PX = 1300
_INK, _SOFT = "#16191f", "#4a5160"
_LETTER_WIDTH, _BOLD_LETTER_WIDTH = 0.58, 0.66
_PNG_EFFORT = 4


@dataclass(frozen=True)
class Panel:
    """One picture (height, width, 3) RGB and the words above it."""

    picture: NDArray[np.uint8]
    title: str


@dataclass(frozen=True)
class LegendEntry:
    """One colour and what it means: ``face`` fills the box, ``edge`` frames it (RGB)."""

    text: str
    face: tuple[int, int, int]
    edge: tuple[int, int, int]


@dataclass(frozen=True)
class ColourBar:
    """The colours (steps, 3) RGB from low to high, what they show and the values at the ends."""

    colours: NDArray[np.uint8]
    label: str
    ends: tuple[float, float]


def draw_figure(
    panels: Sequence[Panel],
    *,
    title: str,
    subtitle: str,
    bar: ScaleBar,
    legend: Sequence[LegendEntry] = (),
    colour_bar: ColourBar | None = None,
    note: str = "",
) -> bytes:
    """Draw panels of one size side by side as a PNG; no pixel of theirs is resampled.

    Titles and names are drawn as they are: nothing in them is taken for mathematics. Characters that the font lacks
    are drawn as escapes.
    """
    page = _Page(panels)
    page.write(0, 34, title, size=page.title_size(title), width=page.inner, weight="bold")
    page.write(0, 64, subtitle, size=15, width=page.inner, colour=_SOFT)
    for number, panel in enumerate(panels):
        page.write(number * page.step, _HEADER - 12, panel.title, size=16, width=page.slot)
        page.show(panel.picture, number)
    _draw_bar(page, bar, panels[0].picture.shape[1])
    _draw_legend(page, legend)
    if colour_bar is None:
        page.write(0, page.foot + 78, note, size=14, width=page.inner, colour=_SOFT, lines=2)
    else:
        _draw_colour_bar(page, colour_bar, panels[-1].picture.shape[1])
        page.write(0, page.foot + 14, note, size=14, width=page.slot, colour=_SOFT, lines=4)
    return page.png()


class _Page:
    """A figure addressed from the top left of its inner area.

    Panels are addressed in pixels of their own; heights of text and header in units of ``scale`` pixels, so that words
    stay legible when a wide figure is shown small.
    """

    def __init__(self, panels: Sequence[Panel]) -> None:
        self._height, self._width = panels[0].picture.shape[:2]
        narrow = len(panels) * max(self._width, _FEWEST_PX)
        self.scale = max(1.0, narrow / _USUAL_PX)
        self.slot = max(self._width, round(_FEWEST_PX * self.scale))
        self.step = self.slot + round(_GAP * self.scale)
        self.inner = len(panels) * self.step - round(_GAP * self.scale)
        self.foot = _HEADER + self._height / self.scale
        self._margin = round(_MARGIN * self.scale)
        self._total = (self.inner + 2 * self._margin, self._height + round((_HEADER + _FOOTER) * self.scale))
        size = (self._total[0] / _DPI, self._total[1] / _DPI)
        self._figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
        self._pictures: list[tuple[int, int, NDArray[np.uint8]]] = []

    def points(self, size: float) -> float:
        """Size of letters in points."""
        return float(size * self.scale * 72 / _DPI)

    def title_size(self, title: str) -> float:
        """Size of a title that fits the page: 22 units, down to 13 for long slide names."""
        fitting = self.inner / self.scale / (_BOLD_LETTER_WIDTH * max(1, len(title)))
        return float(np.clip(fitting, 13, 22))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Lay bare axes over a box; ``left`` and ``width`` are pixels, ``top`` and ``height`` units."""
        across, down = self._total
        high = round(height * self.scale)
        above = round(top * self.scale)
        box = ((left + self._margin) / across, 1 - (above + high) / down, width / across, high / down)
        axes = self._figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def show(self, picture: NDArray[np.uint8], number: int) -> None:
        """Put a panel's picture in its place."""
        self._pictures.append((self._margin + number * self.step, round(_HEADER * self.scale), picture))

    def write(
        self,
        left: float,
        baseline: float,
        text: str,
        *,
        size: float,
        width: float,
        weight: str = "normal",
        colour: str = _INK,
        lines: int = 1,
        align: Literal["left", "right"] = "left",
    ) -> None:
        """Write text of ``size`` units at a place, wrapped to ``width`` and cut after ``lines`` with an ellipsis."""
        letter = _BOLD_LETTER_WIDTH if weight == "bold" else _LETTER_WIDTH
        letters = max(8, int(width / (size * self.scale * letter)))
        wrapped = textwrap.wrap(
            _drawable(text, weight), letters, max_lines=lines, placeholder=" …", break_on_hyphens=False
        )
        self._figure.text(
            (left + self._margin) / self._total[0],
            1 - baseline * self.scale / self._total[1],
            "\n".join(wrapped),
            fontsize=self.points(size),
            fontweight=weight,
            color=colour,
            ha=align,
            va="baseline" if lines == 1 else "top",
            linespacing=1.35,
            parse_math=False,
        )

    def png(self) -> bytes:
        """Render the words, paste the pictures in and encode all."""
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        drawn = np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
        for left, top, picture in self._pictures:
            drawn[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        options = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_EFFORT]
        encoded: bytes = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), options)[1].tobytes()
        return encoded


def _drawable(text: str, weight: str) -> str:
    """Write characters that the font lacks as their escapes: a box in their place would say nothing."""
    known = _characters(weight)
    return "".join(letter if ord(letter) in known else letter.encode("unicode_escape").decode() for letter in text)


@cache
def _characters(weight: str) -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(weight=weight))).get_charmap())


def _draw_bar(page: _Page, bar: ScaleBar, width: float) -> None:
    """Draw the scale over the first picture, flush right, where it hides no tissue; the others share it."""
    length = bar.share * width
    page.axes(width - length, _HEADER - 20, length, 6).set_facecolor("black")
    page.write(width - length - 8 * page.scale, _HEADER - 12, bar.label, size=15, width=page.slot, align="right")


def _draw_colour_bar(page: _Page, bar: ColourBar, width: float) -> None:
    axes = page.axes(page.step, page.foot + 16, width, 18)
    low, high = bar.ends
    axes.imshow(bar.colours[None], aspect="auto", extent=(low, high, 0, 1), interpolation="bilinear")
    axes.set_xticks(np.linspace(low, high, 5))
    axes.tick_params(labelsize=page.points(13), colors=_INK)
    axes.set_xlabel(bar.label, fontsize=page.points(14), color=_INK)


def _draw_legend(page: _Page, legend: Sequence[LegendEntry]) -> None:
    for number, entry in enumerate(legend):
        left = number * page.inner / len(legend)
        box = page.axes(left, page.foot + 20, 28 * page.scale, 28)
        box.set_facecolor(_share(entry.face))
        for spine in box.spines.values():
            spine.set(visible=True, color=_share(entry.edge), linewidth=3 * page.scale)
        page.write(
            left + 40 * page.scale,
            page.foot + 18,
            entry.text,
            size=14,
            width=page.inner / len(legend) - 48 * page.scale,
            lines=3,
        )


def _share(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return (colour[0] / 255, colour[1] / 255, colour[2] / 255)
