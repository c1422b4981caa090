"""Figure 1 of the paper: the method, drawn from one real slide."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.explain.fates import FATES, attention_percentile
from dtcwsi.explain.figures.canvas import scale_bar
from dtcwsi.explain.figures.compression import NO_SLIDE
from dtcwsi.explain.figures.examples import choose_groups, choose_kept, choose_pruned
from dtcwsi.explain.figures.furniture import (
    SMALL,
    LegendEntry,
    draw_bar,
    headed_page,
    legend,
    note,
    plural,
    section,
    strip,
    strip_scale,
)
from dtcwsi.explain.figures.page import INK, SOFT, Page
from dtcwsi.explain.figures.painting import FATE_COLOURS
from dtcwsi.explain.figures.stages import shown_stages
from dtcwsi.explain.figures.subject import Subject

__all__ = ["draw_figure1"]

_GAP, _GROUPS, _MEMBERS, _RANKED = 46, 2, 3, 8
_MOST_CLASSES = 4
_PALE = (238, 240, 244)
_BLUE = (0, 114, 178)


def draw_figure1(subject: Subject) -> Page:
    """Draw the way of a slide through the first model: patches, encoder, stages with their tokens, prediction.

    A has the real counts; B the heaviest patches of two merged groups with their weights in the token; C patches from
    least to most importance, evenly spaced in rank, framed by what became of them (without a scorer: examples of both).
    """
    page = headed_page(subject, f"The method on this slide; {subject.heading.fates_of}", columns=1)
    section(page, "A  From slide to prediction")
    _pipeline(page, subject)
    if not len(subject.coords):
        note(page, "This slide has no tissue patches, so nothing can be merged or pruned.")
        return page
    if subject.slide is None:
        section(page, "B–C  Merging and pruning", NO_SLIDE)
        return page
    _merging(page, subject)
    _pruning(page, subject)
    counts = subject.inside.fates.counts
    there = np.unique(subject.inside.fates.fate).tolist() if counts.tokens_out < counts.tokens_in else []
    legend(page, [LegendEntry(FATES[fate], ((255, 255, 255),), FATE_COLOURS[FATES[fate]]) for fate in there])
    tinted = "After a stage, merged patches have one colour a token and pruned ones are dark. " if there else ""
    note(page, tinted + subject.heading.fates_note)
    return page


def _pipeline(page: Page, subject: Subject) -> None:
    stages = subject.inside.stages
    staged = isinstance(subject.model.compressor, StagedCompressor)
    shown = [stage for stage in shown_stages(len(stages)) if staged and (len(stages) <= 3 or stage in (1, len(stages)))]
    blocks = 4 + len(shown)
    side = (page.inner - (blocks - 1) * page.px(_GAP)) // blocks
    lefts = [page.margin + number * (side + page.px(_GAP)) for number in range(blocks)]
    top = round(page.bottom + page.px(10))
    slide_px = _fitted(page, subject.canvas.picture, lefts[0], top, side)
    _mosaic(page, subject, lefts[1], top, side)
    page.box(lefts[2], top, side, side, face=_PALE)
    for left, stage in zip(lefts[3:-1], shown, strict=True):
        _fitted(page, subject.after_stage(stage), left, top, side)
    page.box(lefts[-1], top, side, side, face=_PALE)
    _classes(page, subject, lefts[-1], top, side)
    for left in lefts[1:]:
        page.arrow(left - page.px(_GAP) + page.px(4), left - page.px(4), top + side / 2)
    _encoder(page, subject, lefts[2], top, side)
    words = [*_words(subject), *(f"Stage {s}: {plural(stages[s - 1].counts.tokens_out, 'token')}" for s in shown)]
    words.append(f"{subject.model.name}: attention over {plural(stages[-1].counts.tokens_out, 'token')}, class")
    below = top + side + page.px(8)
    for left, text in zip(lefts, words, strict=True):
        page.write(text, left, below, side + page.px(20), size=SMALL)
    draw_bar(page, scale_bar(subject.canvas), lefts[0], slide_px)


def _words(subject: Subject) -> list[str]:
    spacing = subject.features.spacing_um
    of = f" of {subject.crop_px} px at {spacing:g} µm/px" if spacing else ""
    width = subject.features.features.shape[1]
    slide = "Slide (file not given)" if subject.canvas.blank else "Slide"
    return [slide, f"{plural(len(subject.coords), 'patch')}{of}", f"Encoder: {width:,} numbers a patch"]


def _fitted(page: Page, picture: NDArray[np.uint8], left: int, top: int, side: int) -> int:
    """Show a picture in a square.  Returns: its width there."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return page.show(picture, left + (side - size[0]) // 2, top + (side - size[1]) // 2, size)[0]


def _mosaic(page: Page, subject: Subject, left: int, top: int, side: int) -> None:
    """Show at most nine patches, evenly spaced in the slide's order."""
    count = len(subject.coords)
    patches = np.unique(np.linspace(0, count - 1, min(9, count)).round().astype(int))
    gap, across = page.px(6), max(1, math.ceil(len(patches) ** 0.5))
    small = (side - (across - 1) * gap) // across
    crops = subject.crops(patches) or [np.full((8, 8, 3), 225, np.uint8)] * len(patches)
    for number, crop in enumerate(crops):
        row, column = divmod(number, across)
        page.show(crop, left + column * (small + gap), top + row * (small + gap), (small, small))


def _encoder(page: Page, subject: Subject, left: int, top: int, side: int) -> None:
    name = subject.features.encoder or "encoder"
    page.write(
        name, left + side / 2, top + side * 0.4, side - page.px(16), size=SMALL, bold=True, align="center", lines=3
    )


def _classes(page: Page, subject: Subject, left: int, top: int, side: int) -> None:
    if not len(subject.coords):
        return
    chances = subject.inside.probabilities
    best = np.argsort(-chances, kind="stable")[:_MOST_CLASSES]
    pad, slot = page.px(12), side / len(best)
    for number, index in enumerate(best.tolist()):
        at = top + number * slot
        page.write(subject.class_names[index], left + pad, at + page.px(2), side - 2 * pad, size=SMALL, lines=1)
        width = max(1.0, (side - 2 * pad) * 0.6 * chances[index])
        high = min(page.px(26), slot - page.px(44))
        page.box(left + pad, at + page.px(44), width, high, face=_BLUE)
        page.write(f"{chances[index]:.2f}", left + pad + width + page.px(8), at + page.px(38), side, size=SMALL)


def _merging(page: Page, subject: Subject) -> None:
    fates = subject.inside.fates
    groups = choose_groups(fates, subject.coords, _GROUPS)
    told = "Patches on the left become one token, drawn as a pile of them; the numbers are their weights in it."
    section(page, "B  Merging", told if groups else "None: this model merged nothing on this slide.")
    if not groups:
        return
    slot = page.inner / _GROUPS
    side = int((slot - page.px(260)) / (_MEMBERS + 1))
    top = page.bottom + page.px(6)
    below = top + side + page.px(26)
    for number, group in enumerate(groups):
        left = page.margin + number * slot
        shown = group[np.argsort(-subject.inside.part[group], kind="stable")][:_MEMBERS]
        end = strip(page, subject.crops(shown), left, top, side, FATE_COLOURS["merged"])
        page.arrow(end + page.px(10), end + page.px(70), top + side / 2)
        _pile(page, subject, shown, end + page.px(80), top, side)
        page.write(_weights(subject, group, shown), left, below, slot - page.px(30), size=SMALL)
    strip_scale(page, subject, page.margin, side)


def _pile(page: Page, subject: Subject, patches: NDArray[np.int64], left: float, top: float, side: int) -> None:
    """Show one token as its patches on a pile."""
    step, line = page.px(14), page.px(9)
    small = side - step * (len(patches) - 1)
    for number, crop in enumerate(subject.crops(patches)):
        at = number * step
        page.show(crop, round(left) + line + at, round(top) + line + at, (small, small))
    page.box(round(left), round(top), side + 2 * line, side + 2 * line, edge=FATE_COLOURS["merged"], line=line)


def _weights(subject: Subject, group: NDArray[np.int64], shown: NDArray[np.int64]) -> str:
    parts = subject.inside.part[shown]
    if not parts.any():
        return f"{plural(len(group), 'patch')} became one token, which was pruned later"
    more = f" + {len(group) - len(shown):,} more" if len(group) > len(shown) else ""
    return (
        f"token of {len(group):,} = " + " + ".join(f"{part:.2f} × patch {n + 1}" for n, part in enumerate(parts)) + more
    )


def _pruning(page: Page, subject: Subject) -> None:
    fates, importance = subject.inside.fates, subject.inside.importance
    counts = fates.counts
    if importance is None and not counts.pruned:
        section(page, "C  Pruning", "None: this model pruned nothing on this slide.")
        return
    if importance is None:
        half = _RANKED // 2
        patches = [*choose_pruned(fates, subject.coords, None, half), *choose_kept(fates, subject.coords, half)]
        words = "First pruned, then kept patches: this model has no importance network."
    else:
        ranked = np.argsort(importance, kind="stable")
        patches = ranked[
            np.unique(np.linspace(0, len(ranked) - 1, min(_RANKED, len(ranked))).round().astype(int))
        ].tolist()
        words = "From least to most important, evenly spaced in rank; the number is the percentile of importance."
    section(page, f"C  Pruning: {plural(counts.pruned, 'patch')} left out", words)
    _ranked(page, subject, [int(patch) for patch in patches], fates.fate)


def _ranked(page: Page, subject: Subject, patches: Sequence[int], fate: NDArray[np.int8]) -> None:
    slot = page.inner / _RANKED
    side = int(slot - page.px(32))
    top = page.bottom + page.px(6)
    importance = subject.inside.importance
    percent = None if importance is None else attention_percentile(importance)
    for number, (patch, crop) in enumerate(zip(patches, subject.crops(patches), strict=True)):
        left, name = page.margin + number * slot, FATES[fate[patch]]
        strip(page, [crop], left, top, side, FATE_COLOURS[name])
        told = name if percent is None else f"{percent[patch]:.0f}: {name}"
        page.write(told, left, top + side + page.px(24), slot - 8, size=SMALL, colour=INK if name != "pruned" else SOFT)
    strip_scale(page, subject, page.margin, side)
