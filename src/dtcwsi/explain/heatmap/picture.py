"""The page of a heatmap: the slide, the heat over it, what the colours mean, and what the models say."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.figures.canvas import ELONGATED, Canvas, blank_canvas, slide_canvas
from dtcwsi.explain.figures.furniture import ColourScale, Panel, colour_scales, note, show_panels
from dtcwsi.explain.figures.page import SOFT, USUAL_PX, Page
from dtcwsi.explain.heatmap.blending import Frame, HeatLayer, blend
from dtcwsi.explain.heatmap.colours import paint_over
from dtcwsi.explain.heatmap.scales import Scale
from dtcwsi.nn.order import infer_step
from dtcwsi.types import SlideReader

__all__ = ["Words", "draw_heatmap", "heat_over"]

_SIDE_PX = 1040  # two panels fill a page
_TITLE = 44.0
_GAP = 46  # between panels, with room to scale


@dataclass(frozen=True)
class Words:
    """What stands above the picture, under that, above the heat, and at the foot of the page."""

    title: str
    subtitle: str
    heat: str
    foot: str = ""


def draw_heatmap(
    words: Words, layer: HeatLayer, scale: Scale, slide: SlideReader | None, *, spacing_um: float | None
) -> bytes:
    """Draw a slide and its heatmap side by side as PNG; no pixel of theirs is resampled.

    Without the slide, patches lie on blank ground, whose scale follows from ``spacing_um`` of a level-0 pixel.
    Raises: SlideError if the slide cannot be decoded.
    """
    size = layer.patch_size_level0
    if slide is None:
        canvas = blank_canvas(layer.coords, size, max_px=_SIDE_PX, spacing_um=spacing_um)
    else:
        canvas = slide_canvas(slide, max_px=_SIDE_PX, patch_size_level0=size if len(layer.coords) else None)
    height, width = canvas.picture.shape[:2]
    page = Page(max(USUAL_PX, width if width > ELONGATED * height else 2 * width + _GAP))
    bottom = page.write(words.title, page.margin, page.bottom, page.inner, size=_TITLE, bold=True, lines=3)
    page.write(words.subtitle, page.margin, bottom, page.inner, colour=SOFT, lines=3)
    panels = [
        Panel(canvas.picture, "Patches (no slide file)" if canvas.blank else "Slide"),
        Panel(heat_over(canvas, layer), words.heat),
    ]
    places = show_panels(page, canvas, panels, columns=2)
    colour_scales(page, places[1:], [ColourScale(scale.ticks, scale.label)])
    note(page, " ".join(filter(None, (words.foot, scale.caution, _note(layer)))))
    return page.encode("png")


def heat_over(canvas: Canvas, layer: HeatLayer) -> NDArray[np.uint8]:
    """Paint heat over a canvas, (height, width, 3) RGB; patches without heat are grey, what no patch shows is pale."""
    height, width = canvas.picture.shape[:2]
    frame = Frame(width, height, canvas.pixel_level0, canvas.origin_level0)
    cut = blend(replace(layer, heat=np.zeros(len(layer.heat))), frame).cover
    return paint_over(canvas.picture, blend(layer, frame), cut)


def _note(layer: HeatLayer) -> str:
    if not len(layer.heat):
        return "This slide has no tissue patches: there is no attention to show."
    unseen = int(np.isnan(layer.heat).sum())
    grey = f"Grey: no attention ({unseen:,} patches were pruned or got none). " if unseen else ""
    overlap = "Where patches overlap, the colour is their mean. " if _overlap(layer) else ""
    return f"{overlap}{grey}Pale: no patch."


def _overlap(layer: HeatLayer) -> bool:
    return len(layer.coords) > 1 and infer_step(layer.coords) < layer.patch_size_level0
