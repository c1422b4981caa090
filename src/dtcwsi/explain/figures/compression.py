"""Figures 2 and 4 of the paper: what one model merged and pruned, on the slide and patch by patch."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import PatchFates
from dtcwsi.explain.figures.examples import choose_groups, choose_pruned
from dtcwsi.explain.figures.furniture import (
    SMALL,
    LegendEntry,
    Panel,
    Place,
    colour_scales,
    headed_page,
    lay_out,
    legend,
    mark,
    note,
    plural,
    section,
    show_panels,
    slide_panel,
    strip,
    strip_scale,
)
from dtcwsi.explain.figures.maps import PERCENTILE
from dtcwsi.explain.figures.page import Colour, Page
from dtcwsi.explain.figures.painting import FATE_COLOURS, paint_attention
from dtcwsi.explain.figures.subject import Subject

__all__ = ["GONE", "NO_SLIDE", "draw_figure2", "draw_figure4", "fate_legend", "told_ratio"]

GONE = (38, 42, 50)
_WHITE = (255, 255, 255)
_SOME_GROUPS = ((230, 159, 0), (86, 180, 233), (190, 160, 240))  # of the groups' palette
NO_SLIDE = "No slide file was given, so no patches can be cut from it."
_GREEN, _RED = FATE_COLOURS["kept"], FATE_COLOURS["pruned"]
_ACROSS, _MEMBERS = 8, 4


def draw_figure2(subject: Subject) -> Page:
    """Draw the slide, attention after merging and after pruning, and examples of both cut from the slide.

    All of the first model. After merging: its attention if everything is merged as it was and nothing pruned. B and C
    show four merged groups, D eight pruned patches, chosen as `dtcwsi.explain.figures.examples` says.
    """
    inside = subject.inside
    fates = inside.fates
    groups = _groups(fates)
    merging = "After merging, before pruning" if groups < len(fates) else "Before pruning (nothing is merged)"
    pruning = "After pruning" if fates.counts.pruned else "Nothing is pruned"
    page = headed_page(subject, f"{subject.heading.fates_of}: {told_ratio(fates)}", columns=3)
    panels = [
        slide_panel(subject, "A"),
        Panel(
            subject.painted(paint_attention, fates.with_attention(inside.unpruned)),
            f"{merging}: {plural(groups, 'token')}",
        ),
        Panel(subject.painted(paint_attention, fates), f"{pruning}: {plural(fates.counts.tokens_out, 'token')}"),
    ]
    places = show_panels(page, subject.canvas, panels, columns=3)
    colour_scales(page, places[1:2], [replace(PERCENTILE, label="attention, percentile; grey: none; pale: no patch")])
    if not len(fates) or subject.slide is None:
        section(page, "B–D  Examples", NO_SLIDE if len(fates) else "There are no tissue patches to show.")
        note(page, subject.heading.fates_note)
    else:
        _examples(page, subject, fates, places[0])
    return page


def draw_figure4(subject: Subject) -> Page:
    """Draw the slide, merge groups in one colour each, and what pruning leaves."""
    fates = subject.fates
    page = headed_page(subject, f"{subject.heading.fates_of}: {told_ratio(fates)}", columns=3)
    panels = [
        slide_panel(subject),
        Panel(subject.panels["merging"], _merging_title(fates)),
        Panel(subject.panels["pruning"], _pruning_title(fates)),
    ]
    show_panels(page, subject.canvas, panels, columns=3)
    legend(page, fate_legend(fates))
    tinted = (
        "Merged patches share interior and border colour; groups that touch differ, distant ones may be alike. "
        "Under merging, groups pruned later are tinted too, and green outlines are patches that never merged, pruned "
        "later or not. "
    )
    note(page, f"{tinted if _groups(fates) < len(fates) else ''}{subject.heading.fates_note}")
    return page


def _merging_title(fates: PatchFates) -> str:
    return "Merging: alike patches become one token" if _groups(fates) < len(fates) else "Merging: nothing is merged"


def _pruning_title(fates: PatchFates) -> str:
    return "Pruning: what is left for the decision" if fates.counts.pruned else "Pruning: nothing is pruned"


def _groups(fates: PatchFates) -> int:
    return len(np.unique(fates.group))


def told_ratio(fates: PatchFates) -> str:
    """Say how many patches came in and how many tokens were left."""
    counts = fates.counts
    if not counts.tokens_in:
        return "no tissue patches"
    if counts.tokens_out == counts.tokens_in:
        return f"{plural(counts.tokens_in, 'patch')} in, all are tokens, nothing is merged or pruned"
    share = counts.tokens_out / counts.tokens_in
    return f"{plural(counts.tokens_in, 'patch')} in, {plural(counts.tokens_out, 'token')} out ({share:.0%})"


def fate_legend(fates: PatchFates, merged: Colour | None = FATE_COLOURS["merged"]) -> list[LegendEntry]:
    """Say what the colours of the fates that there are mean, and how many patches had each.

    ``merged`` is the colour of that fate's outlines; None where each token has a colour of its own.
    """
    counts = fates.counts
    told = {
        "kept": (f"{plural(counts.kept, 'patch')}, each a token of its own", (_WHITE,), FATE_COLOURS["kept"]),
        "merged": (
            f"{plural(counts.merged, 'patch')} into {plural(counts.merged_tokens, 'token')}",
            _SOME_GROUPS,
            merged,
        ),
        "pruned": (f"{plural(counts.pruned, 'patch')}, dark", (GONE,), GONE),
    }
    many = {"kept": counts.kept, "merged": counts.merged, "pruned": counts.pruned}
    return [LegendEntry(f"{name}: {words}", faces, edge) for name, (words, faces, edge) in told.items() if many[name]]


def _examples(page: Page, subject: Subject, fates: PatchFates, slide: Place) -> None:
    groups = choose_groups(fates, subject.coords, 4)
    pruned = choose_pruned(fates, subject.coords, subject.inside.importance, _ACROSS)
    told = (("B" if len(groups) > 2 else "B–C", "alike patches, one token a frame"), ("C", "two further tokens"))
    for (letter, words), part, first in zip(told, (groups[:2], groups[2:]), (1, 3), strict=True):
        if part:
            section(page, f"{letter}  Merged: {words}")
            _show_groups(page, subject, fates, part, first)
    if not groups:
        section(page, "B–C  Merged", "None: this model merged nothing on this slide.")
    section(page, "D  Pruned", "" if len(pruned) else "None: this model pruned nothing on this slide.")
    if len(pruned):
        _show_pruned(page, subject, pruned, _pruned_numbers(groups, pruned))
    numbered = enumerate(groups, start=1)
    examples = [(patch, _GREEN, str(number)) for number, group in numbered for patch in group[:_MEMBERS].tolist()]
    numbered_pruned = zip(pruned.tolist(), _pruned_numbers(groups, pruned), strict=True)
    mark(page, subject, slide, [*examples, *((patch, _RED, number) for patch, number in numbered_pruned)])
    framed = [
        (
            len(groups),
            LegendEntry(
                "merged: each frame holds patches of one token (green here, as in the paper)", (_WHITE,), _GREEN
            ),
        ),
        (len(pruned), LegendEntry("pruned: left out of the decision", (_WHITE,), _RED)),
    ]
    legend(page, [entry for many, entry in framed if many], columns=2)
    which = f"{_which(subject)} " if groups or len(pruned) else ""
    note(page, f"{which}{subject.heading.fates_note}")


def _side(page: Page) -> int:
    return (page.inner - _ACROSS * page.px(34)) // _ACROSS


def _pruned_numbers(groups: Sequence[NDArray[np.int64]], pruned: NDArray[np.int64]) -> list[str]:
    """Number pruned patches on from the groups."""
    return [str(len(groups) + place) for place in range(1, len(pruned) + 1)]


def _show_groups(
    page: Page, subject: Subject, fates: PatchFates, groups: Sequence[NDArray[np.int64]], first: int
) -> None:
    side, top = _side(page), page.bottom + page.px(6)
    lefts, width = lay_out(page, 2)
    for left, group in zip(lefts, groups, strict=False):
        strip(page, subject.crops(group[:_MEMBERS]), left, top, side, _GREEN, together=True)
    below = page.bottom + page.px(2)
    for number, (left, group) in enumerate(zip(lefts, groups, strict=False), start=first):
        page.write(f"{number}.  {_told(fates, group)}", left, below, width, size=SMALL)
    strip_scale(page, subject, page.margin, side)


def _told(fates: PatchFates, group: NDArray[np.int64]) -> str:
    stage = fates.stage[group].min()
    when = f"merged from stage {stage} on" if fates.token[group[0]] >= 0 else f"pruned together at stage {stage}"
    shown = f", {_MEMBERS} shown" if len(group) > _MEMBERS else ""
    return f"{plural(len(group), 'patch')}{shown}, {when}"


def _show_pruned(page: Page, subject: Subject, pruned: NDArray[np.int64], numbers: Sequence[str]) -> None:
    side, top = _side(page), page.bottom + page.px(6)
    right = strip(page, subject.crops(pruned), page.margin, top, side, _RED)
    below, slot = page.bottom + page.px(2), (right + page.px(14) - page.margin) / len(pruned)
    for place, number in enumerate(numbers):
        page.write(f"{number}.", page.margin + place * slot, below, slot, size=SMALL)
    strip_scale(page, subject, page.margin, side)


def _which(subject: Subject) -> str:
    worth = "of least importance" if subject.inside.importance is not None else "that left first"
    return (
        f"Examples: of the largest groups, and of the pruned patches {worth}, those farthest from each other. "
        "Frames with their numbers show where they lie on the slide."
    )
