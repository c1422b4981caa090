"""All figures of a slide by name, drawn in the formats asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dtcwsi.explain.figures.compression import draw_figure2, draw_figure4
from dtcwsi.explain.figures.maps import draw_attention, draw_importance
from dtcwsi.explain.figures.overview import draw_figure1
from dtcwsi.explain.figures.page import FORMATS, Page
from dtcwsi.explain.figures.retentions import draw_figure3
from dtcwsi.explain.figures.stages import draw_stages
from dtcwsi.explain.figures.subject import Subject
from dtcwsi.explain.figures.top_patches import draw_top_patches
from dtcwsi.options import check_number, check_whole_number, one_of

__all__ = ["FIGURES", "Wanted", "draw_figures"]

_MOST_RETENTIONS = 6  # more columns would be too narrow to read

FIGURES: dict[str, Callable[[Subject], Page]] = {
    "attention": draw_attention,
    "figure1": draw_figure1,
    "figure2": draw_figure2,
    "figure3": draw_figure3,
    "figure4": draw_figure4,
    "importance": draw_importance,
    "tokens-by-stage": draw_stages,
    "top-patches": draw_top_patches,
}


@dataclass(frozen=True)
class Wanted:
    """Which figures to draw, in which formats, and the retentions that figure3 and a report compare.

    Raises: OptionError if a figure or format is unknown, or a retention not above 0 and at most 1.
    """

    figures: tuple[str, ...] = tuple(FIGURES)
    formats: tuple[str, ...] = ("png",)
    retentions: tuple[float, ...] = (1.0, 0.7, 0.5, 0.4)

    def __post_init__(self) -> None:
        for name in self.figures:
            one_of("figure", name, tuple(FIGURES))
        for name in self.formats:
            one_of("format", name, FORMATS)
        check_whole_number("number of retentions", len(self.retentions), most=_MOST_RETENTIONS)
        for share in self.retentions:
            check_number("retention", share, lambda kept: 0 < kept <= 1, "a number above 0 and at most 1")


def draw_figures(subject: Subject, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Draw figures one after the other, as they are asked for.

    Returns: file names, such as figure2.png, and contents.
    Raises: SlideError if a patch cannot be decoded.
    """
    for name in dict.fromkeys(wanted.figures):
        page = FIGURES[name](subject)
        for file_format in dict.fromkeys(wanted.formats):
            yield f"{name}.{file_format}", page.encode(file_format)
