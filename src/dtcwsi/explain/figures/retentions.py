"""Figure 3 of the paper: the same weights at several budgets, side by side."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.budgets import Budget
from dtcwsi.explain.fates import FATES
from dtcwsi.explain.figures.compression import GONE, NO_SLIDE
from dtcwsi.explain.figures.examples import choose_groups, choose_kept, choose_pruned
from dtcwsi.explain.figures.furniture import (
    SMALL,
    LegendEntry,
    Panel,
    headed_page,
    lay_out,
    legend,
    note,
    plural,
    section,
    show_panels,
    strip,
    strip_scale,
)
from dtcwsi.explain.figures.page import SOFT, Page
from dtcwsi.explain.figures.painting import FATE_COLOURS, paint_pruning
from dtcwsi.explain.figures.subject import Subject

__all__ = ["draw_figure3"]

_SHOWN = 3
_WHITE = (255, 255, 255)


def draw_figure3(subject: Subject) -> Page:
    """Draw what the first model's weights keep, merge and prune at each retention, with patches of each.

    Shown are the first three patches of one merged token that is left, three pruned and three kept patches, chosen as
    `dtcwsi.explain.figures.examples` says. A model without a retention is drawn once, as it is.
    """
    columns, why = subject.budgets
    how = "as it is" if why else "the same weights at several retentions r"
    told = f"{subject.heading.fates_of}: {plural(len(subject.coords), 'patch')}, {how}"
    page = headed_page(subject, told, columns=len(columns))
    panels = [Panel(subject.painted(paint_pruning, each.fates), f"{each.name}: {_tokens(each)}") for each in columns]
    places = show_panels(page, subject.canvas, panels, columns=len(columns))
    top = max(page.bottom, places[-1].top + places[-1].height)
    lefts, width = lay_out(page, len(columns))
    for left, each in zip(lefts, columns, strict=True):
        page.write(f"{each.name}: {each.told}", left, top + page.px(6), width, size=SMALL, lines=3)
    _examples(page, subject, columns)
    legend(page, _legend(columns), columns=3)
    note(page, " ".join(filter(None, (why, subject.heading.fates_note))))
    return page


def _tokens(column: Budget) -> str:
    counts = column.fates.counts
    if not counts.tokens_in:
        return "no patches"
    return plural(counts.tokens_out, "token")


def _examples(page: Page, subject: Subject, columns: Sequence[Budget]) -> None:
    if subject.slide is None or not len(subject.coords):
        section(page, "Examples", NO_SLIDE if len(subject.coords) else "There are no tissue patches to show.")
        return
    importance = subject.inside.importance
    chosen = {
        "merged": [_group(subject, each) for each in columns],
        "pruned": [choose_pruned(each.fates, subject.coords, importance, _SHOWN) for each in columns],
        "kept": [choose_kept(each.fates, subject.coords, _SHOWN) for each in columns],
    }
    for fate, patches in chosen.items():
        if not any(len(each) for each in patches):
            section(page, fate.capitalize(), "None.")
            continue
        section(
            page, fate.capitalize(), "One token a column, a largest one: its first patches" if fate == "merged" else ""
        )
        _row(page, subject, columns, fate, patches)


def _group(subject: Subject, column: Budget) -> NDArray[np.int64]:
    for group in choose_groups(column.fates, subject.coords, 1):
        if column.fates.token[group[0]] >= 0:
            return group[:_SHOWN]
    return np.zeros(0, np.int64)


def _row(
    page: Page, subject: Subject, columns: Sequence[Budget], fate: str, chosen: Sequence[NDArray[np.int64]]
) -> None:
    lefts, width = lay_out(page, len(columns))
    side = int(min((width - page.px(_SHOWN * 18 + 2 * 14)) / _SHOWN, page.px(250)))
    top = page.bottom + page.px(6)
    for left, each, patches in zip(lefts, columns, chosen, strict=True):
        if len(patches):
            strip(page, subject.crops(patches), left, top, side, FATE_COLOURS[fate], together=fate == "merged")
        below = top + side + page.px(22)
        page.write(f"{each.name}: {_count(each, fate)}", left, below, width, size=SMALL, colour=SOFT)
    strip_scale(page, subject, page.margin, side)


def _count(column: Budget, fate: str) -> str:
    counts = column.fates.counts
    many = {"kept": counts.kept, "merged": counts.merged, "pruned": counts.pruned}[fate]
    into = f" in {plural(counts.merged_tokens, 'token')}" if fate == "merged" and many else ""
    return f"{plural(many, 'patch')} {fate}{into}" if many else f"none {fate}"


def _legend(columns: Sequence[Budget]) -> list[LegendEntry]:
    told = {
        "kept": ("a token of its own (green)", _WHITE),
        "merged": ("several patches are one token (blue)", _WHITE),
        "pruned": ("left out; orange frame, dark on the slide", GONE),
    }
    return [
        LegendEntry(f"{name}: {words}", (face,), FATE_COLOURS[name])
        for name, (words, face) in told.items()
        if any((each.fates.fate == FATES.index(name)).any() for each in columns)
    ]
