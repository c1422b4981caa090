"""A page: pictures at one pixel a pixel of 300 dpi, words that are measured before they are set; PNG, SVG or PDF."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

from dtcwsi.explain.figures.letters import ASCENT, LINE, drawable, width_of, wrap

__all__ = ["BODY", "Colour", "DPI", "FORMATS", "INK", "SOFT", "Page", "Picture"]

DPI = 300
FORMATS = ("png", "svg", "pdf")
USUAL_PX = 2126  # 180 mm, two columns of a journal
BODY = 33.0  # 8 points
INK, SOFT = (22, 25, 31), (74, 81, 96)
_MARGIN = 34
_PNG_EFFORT = 3
_UNDATED = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "ModDate": None},
}  # the same page, the same file
_AS_IT_IS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dtcwsi",
    "pdf.fonttype": 42,
    "image.composite_image": False,
}

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """A raster (height, width, 3) RGB and the box on the page that it fills, pixels from the top left."""

    raster: NDArray[np.uint8]
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class _Line:
    text: str
    left: float
    baseline: float
    size: float
    bold: bool
    colour: Colour
    align: Literal["left", "center", "right"]


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    width: float
    height: float
    face: Colour | None
    edge: Colour | None
    line: float


class Page:
    """What is on a page of ``width`` pixels; its height follows from what is put there.

    Wider pages than a journal's have larger letters, ``scale`` times, since they will be shown smaller.
    """

    def __init__(self, width: int) -> None:
        self.scale = max(1.0, width / USUAL_PX)
        self.margin = self.px(_MARGIN)
        self.width = width + 2 * self.margin
        self.bottom = float(self.margin)
        self.pictures: list[Picture] = []
        self._lines: list[_Line] = []
        self._boxes: list[_Box] = []
        self._arrows: list[tuple[float, float, float]] = []

    @property
    def inner(self) -> int:
        """Width between the margins."""
        return self.width - 2 * self.margin

    @property
    def height(self) -> int:
        """Height with margins."""
        return int(np.ceil(self.bottom)) + self.margin

    def px(self, length: float) -> int:
        """Scale a length with the letters."""
        return round(length * self.scale)

    def show(
        self, raster: NDArray[np.uint8], left: float, top: float, size: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Put a picture on the page, resampled only if ``size`` (width, height) is another.  Returns: that size."""
        height, width = raster.shape[:2]
        wanted = size or (width, height)
        if wanted != (width, height):
            shrinks = wanted[0] <= width
            raster = np.asarray(
                cv2.resize(raster, wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
            )
        self.pictures.append(Picture(raster, round(left), round(top), *wanted))
        self._reach(round(top) + wanted[1])
        return wanted

    def write(
        self,
        text: str,
        left: float,
        top: float,
        width: float,
        *,
        size: float = BODY,
        bold: bool = False,
        colour: Colour = INK,
        lines: int | None = None,
        align: Literal["left", "center", "right"] = "left",
    ) -> float:
        """Set text of ``size`` scaled pixels from ``top`` down, wrapped to ``width``; nothing is taken for mathematics.

        With another ``align``, ``left`` is the middle or the right end.  Returns: the bottom of the last line.
        """
        size *= self.scale
        wrapped = wrap(drawable(text, bold=bold), width / size, bold=bold, lines=lines)
        for number, line in enumerate(wrapped):
            self._lines.append(_Line(line, left, top + (ASCENT + number * LINE) * size, size, bold, colour, align))
        bottom = top + LINE * size * len(wrapped)
        self._reach(bottom)
        return bottom

    def length_of(self, text: str, *, size: float = BODY, bold: bool = False) -> float:
        """Measure text of ``size`` scaled pixels."""
        return width_of(drawable(text, bold=bold), bold=bold) * size * self.scale

    def box(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        *,
        face: Colour | None = None,
        edge: Colour | None = None,
        line: float = 0.0,
    ) -> None:
        """Draw a box filled with ``face``, with an edge ``line`` pixels wide inside it."""
        self._boxes.append(_Box(left, top, width, height, face, edge, line))
        self._reach(top + height)

    def arrow(self, left: float, right: float, middle: float) -> None:
        """Draw an arrow from left to right."""
        self._arrows.append((left, right, middle))

    def figure(self) -> Figure:
        """Set everything as a matplotlib figure of one axes, whose units are the page's pixels."""
        slack = 1e-3  # a product of floats must not fall a pixel short
        figure = Figure(((self.width + slack) / DPI, (self.height + slack) / DPI), dpi=DPI, facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.autoscale(False)
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        for picture in self.pictures:
            extent = (picture.left, picture.left + picture.width, picture.top + picture.height, picture.top)
            axes.imshow(picture.raster, extent=extent, aspect="auto", interpolation="nearest")
        for patch in (part for box in self._boxes for part in _parts(box)):
            axes.add_patch(patch)
        for left, right, middle in self._arrows:
            style = f"-|>,head_length={self.scale * 4:g},head_width={self.scale * 2.4:g}"
            axes.add_patch(
                FancyArrowPatch(
                    (left, middle), (right, middle), arrowstyle=style, shrinkA=0, shrinkB=0, color=_share(INK)
                )
            )
        for line in self._lines:
            axes.text(
                line.left,
                line.baseline,
                line.text,
                fontsize=line.size * 72 / DPI,
                fontfamily="DejaVu Sans",
                fontweight="bold" if line.bold else "normal",
                color=_share(line.colour),
                ha=line.align,
                va="baseline",
                parse_math=False,
            )
        return figure

    def encode(self, file_format: str) -> bytes:
        """Write the page as png (300 dpi), svg or pdf; words stay words in the latter two."""
        options: dict[str, Any] = {"pil_kwargs": {"compress_level": _PNG_EFFORT}} if file_format == "png" else {}
        buffer = BytesIO()
        with rc_context(_AS_IT_IS):
            self.figure().savefig(buffer, format=file_format, dpi=DPI, metadata=_UNDATED[file_format], **options)
        return buffer.getvalue()

    def _reach(self, bottom: float) -> None:
        self.bottom = max(self.bottom, bottom)


def _parts(box: _Box) -> Iterator[Patch]:
    """Give a box's filling, and its edge as an area: a stroke may cover a pixel of the picture that it frames."""
    if box.face is not None:
        yield Rectangle((box.left, box.top), box.width, box.height, facecolor=_share(box.face), linewidth=0)
    if box.edge is not None:
        rings = []
        for inset, way in ((0.0, 1), (box.line, -1)):
            left, top, right, bottom = (
                box.left + inset,
                box.top + inset,
                box.left + box.width - inset,
                box.top + box.height - inset,
            )
            rings += [(left, top), *[(right, top), (right, bottom), (left, bottom)][::way], (left, top)]
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * 2
        yield PathPatch(Path(rings, codes), facecolor=_share(box.edge), linewidth=0)


def _share(colour: Colour) -> tuple[float, float, float]:
    return (colour[0] / 255, colour[1] / 255, colour[2] / 255)
