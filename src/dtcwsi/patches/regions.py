"""Regions of interest: outlines by classification, inside which patches are cut or left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtcwsi.store.outlines import GEOJSON_SUFFIXES, Outline, OutlineFile, find_outline
from dtcwsi.types import Polygon

__all__ = ["Region", "RegionChoice", "region_of"]


@dataclass(frozen=True)
class Region:
    """Where patches may be: inside a polygon of ``within`` (anywhere if None) and outside all of ``without``."""

    within: tuple[Polygon, ...] | None
    without: tuple[Polygon, ...] = ()


@dataclass(frozen=True)
class RegionChoice:
    """Which outlines of a slide's GeoJSON count.

    ``source`` is a folder of files named after slides, or one slide's file. Patches lie inside the outlines whose
    class is in ``classes``, and outside those whose class is in ``without``. Without ``classes`` they lie inside any
    outline, or, if ``without`` names some, anywhere on the slide. Capital and small letters are the same.
    """

    source: Path | OutlineFile
    classes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def file(self, slide_id: str) -> OutlineFile:
        """The slide's file.  Raises: SlideError if there is none."""
        if isinstance(self.source, OutlineFile):
            return self.source
        return find_outline(self.source, slide_id, GEOJSON_SUFFIXES)


def region_of(outlines: Sequence[Outline], choice: RegionChoice) -> Region:
    """Choose a slide's region from its outlines by their classes."""
    without = _of(outlines, choice.without)
    if choice.classes:
        return Region(_of(outlines, choice.classes), without)
    return Region(None if choice.without else tuple(outline.polygon for outline in outlines), without)


def _of(outlines: Sequence[Outline], classes: tuple[str, ...]) -> tuple[Polygon, ...]:
    wanted = {name.casefold() for name in classes}
    return tuple(outline.polygon for outline in outlines if wanted & {name.casefold() for name in outline.classes})
