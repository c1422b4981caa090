"""The two pictures of a slide: where the model looked, and what it merged and pruned."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.figures.canvas import Canvas, owners, scale_bar
from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.explain.figures.page import ColourBar, LegendEntry, Panel, draw_figure
from dtcwsi.explain.figures.painting import FATE_COLOURS, attention_colours, paint_attention, paint_groups, paint_pruning

__all__ = ["Heading", "SlidePictures", "draw_pictures", "encode_jpeg"]

_THUMBNAIL_QUALITY = 82


@dataclass(frozen=True)
class Heading:
    """The words on the pictures: the slide and its prediction; the models, and which of them the fates are of."""

    title: str
    attention_of: str
    fates_of: str
    fates_note: str = ""


@dataclass(frozen=True)
class SlidePictures:
    """Two figures as PNG, and their panels (height, width, 3) RGB: slide, attention, merging, pruning."""

    attention_png: bytes
    compression_png: bytes
    panels: Mapping[str, NDArray[np.uint8]]


def draw_pictures(
    canvas: Canvas, coords: NDArray[np.int64], patch_size_level0: float, fates: PatchFates, heading: Heading
) -> SlidePictures:
    """Draw a slide's attention and compression; the patches (N, 2) lie where they were cut."""
    owner = owners(canvas, coords, patch_size_level0)
    panels = {
        "slide": canvas.picture,
        "attention": paint_attention(canvas, owner, fates),
        "merging": paint_groups(canvas, owner, fates),
        "pruning": paint_pruning(canvas, owner, fates),
    }
    return SlidePictures(
        attention_png=_attention_figure(canvas, panels, fates, heading),
        compression_png=_compression_figure(canvas, panels, fates, heading),
        panels=panels,
    )


def encode_jpeg(picture: NDArray[np.uint8], *, max_px: int) -> bytes:
    """Shrink a picture (height, width, 3) RGB to ``max_px`` a side and encode it as JPEG."""
    shrink = min(1.0, max_px / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * shrink)), max(1, round(picture.shape[0] * shrink)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY]
    encoded: bytes = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    return encoded


def _attention_figure(
    canvas: Canvas, panels: Mapping[str, NDArray[np.uint8]], fates: PatchFates, heading: Heading
) -> bytes:
    return draw_figure(
        [Panel(panels["slide"], _slide_title(canvas)), Panel(panels["attention"], "Attention")],
        title=heading.title,
        subtitle=f"{heading.attention_of}; {len(fates):,} patches",
        bar=scale_bar(canvas),
        colour_bar=ColourBar(attention_colours(), "attention, percentile within this slide", (0.0, 100.0)),
        note=_concentration(fates),
    )


def _compression_figure(
    canvas: Canvas, panels: Mapping[str, NDArray[np.uint8]], fates: PatchFates, heading: Heading
) -> bytes:
    return draw_figure(
        [
            Panel(panels["slide"], _slide_title(canvas)),
            Panel(panels["merging"], "Merging: alike neighbours become one token"),
            Panel(panels["pruning"], "Pruning: what is left for the decision"),
        ],
        title=heading.title,
        subtitle=f"{heading.fates_of}: {_ratio(fates)}",
        bar=scale_bar(canvas),
        legend=_legend(fates),
        note="Merged patches share interior and border colour; distant groups may repeat a colour. "
        f"Groups pruned later are shown in the middle panel too. {heading.fates_note}",
    )


def _slide_title(canvas: Canvas) -> str:
    return "Patches" if canvas.blank else "Slide"


def _ratio(fates: PatchFates) -> str:
    counts = fates.counts
    if not counts.tokens_in:
        return "no tissue patches"
    if counts.tokens_out == counts.tokens_in:
        return f"all {counts.tokens_in:,} patches are tokens, nothing is merged or pruned"
    share = counts.tokens_out / counts.tokens_in
    return f"{counts.tokens_in:,} patches in, {counts.tokens_out:,} tokens out ({share:.0%})"


def _legend(fates: PatchFates) -> list[LegendEntry]:
    counts = fates.counts
    texts = (
        f"kept: {counts.kept:,} patches, each a token of its own",
        f"merged: {counts.merged:,} patches into {counts.merged_tokens:,} tokens (right: blue)",
        f"pruned: {counts.pruned:,} patches, dark on the right",
    )
    faces = ((255, 255, 255), (255, 255, 255), (68, 72, 80))
    edges = (FATE_COLOURS["kept"], FATE_COLOURS["merged"], (38, 42, 50))
    return [LegendEntry(texts[fate], faces[fate], edges[fate]) for fate in range(len(FATES))]


def _concentration(fates: PatchFates) -> str:
    """How unevenly attention is spread, which percentiles hide."""
    if not len(fates):
        return "This slide has no tissue patches: there is no attention to show."
    top = -(-len(fates) // 10)
    share = float(np.sort(fates.attention)[-top:].sum())
    unseen = int((fates.attention <= 0).sum())
    pruned = fates.counts.pruned
    why = ", pruned" if unseen == pruned else ", pruned by every model" if pruned else ""
    grey = f" Grey: no attention ({unseen:,} patches{why})." if unseen else ""
    return f"The tenth of the patches with the most attention holds {share:.0%} of it.{grey}"
