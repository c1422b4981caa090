"""Maps of numbers: attention and importance, each on scales that do not depend on the aggregator."""

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import attention_percentile, concentration
from dtcwsi.explain.figures.furniture import (
    ColourScale,
    Panel,
    colour_scales,
    headed_page,
    note,
    plural,
    show_panels,
    slide_panel,
)
from dtcwsi.explain.figures.page import Page
from dtcwsi.explain.figures.painting import paint_values
from dtcwsi.explain.figures.subject import Subject

__all__ = ["PERCENTILE", "draw_attention", "draw_importance"]

_DOUBLINGS = 4  # the map of multiples ends at 1/16 and 16 times the mean, on every slide
PERCENTILE = ColourScale([(0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1, "100")], "percentile within the slide")
_MULTIPLE = ColourScale([(0, "≤ 1/16"), (0.5, "1"), (1, "≥ 16")], "times the slide's mean, in doublings")
_HELD = ColourScale([(0, "100%"), (0.5, "50%"), (1, "0%")], "of the attention is held by brighter patches")


def draw_attention(subject: Subject) -> Page:
    """Draw all models' attention by percentile, as a multiple of the mean, and by how much the brighter patches hold.

    The first uses the colours evenly, the second compares slides and models, the third tells how few patches decide.
    """
    fates = subject.fates
    page = headed_page(subject, f"{subject.heading.attention_of}; {_patches(len(fates))}", columns=4)
    seen = fates.attention > 0
    maps = [
        Panel(_painted(subject, percent, seen), title)
        for percent, title in (
            (fates.percentile, "Attention, percentile"),
            (_multiples(fates.attention), "Attention, × mean"),
            (_held(fates.attention), "Attention, cumulative"),
        )
    ]
    places = show_panels(page, subject.canvas, [slide_panel(subject), *maps], columns=4)
    colour_scales(page, places[1:], [PERCENTILE, _MULTIPLE, _HELD])
    note(page, _concentration(subject))
    return page


def draw_importance(subject: Subject) -> Page:
    """Draw the share of importance that the first model's scorer gives each patch before the first stage."""
    importance = subject.inside.importance
    page = headed_page(subject, f"{subject.heading.fates_of}; {_patches(len(subject.coords))}", columns=3)
    if importance is None or not len(importance):
        show_panels(page, subject.canvas, [slide_panel(subject)], columns=3)
        why = f"{subject.model.name} has no importance network" if len(subject.coords) else "there are no patches"
        note(page, f"No map of importance: {why}.")
        return page
    everywhere = np.ones(len(importance), np.bool_)
    maps = [
        Panel(_painted(subject, attention_percentile(importance), everywhere), "Importance, percentile"),
        Panel(_painted(subject, _multiples(importance), everywhere), "Importance, × mean"),
    ]
    places = show_panels(page, subject.canvas, [slide_panel(subject), *maps], columns=3)
    colour_scales(page, places[1:], [PERCENTILE, _MULTIPLE])
    spread = float(np.exp(-(importance * np.log(importance.clip(1e-300))).sum()))
    note(
        page,
        "Importance is the softmax of the scores that rank patches before the first stage; it decides what is pruned, "
        f"not the class. It is spread as over {spread:,.0f} equal patches of {len(importance):,}. Pale: no patch.",
    )
    return page


def _painted(subject: Subject, percent: NDArray[np.float64], shown: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return paint_values(subject.canvas, subject.owner, percent, shown)


def _multiples(share: NDArray[np.float64]) -> NDArray[np.float64]:
    doublings = np.log2((share * len(share)).clip(2.0**-_DOUBLINGS, 2.0**_DOUBLINGS))
    return np.asarray(50 * (1 + doublings / _DOUBLINGS))


def _held(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say what percentage is not held by patches with more; equal patches are alike."""
    ordered = np.sort(share)[::-1]
    before = np.concatenate([[0.0], np.cumsum(ordered)])
    return np.asarray(100 * (1 - before[np.searchsorted(-ordered, -share, side="left")]).clip(0, 1))


def _patches(count: int) -> str:
    return plural(count, "patch") if count else "no tissue patches"


def _concentration(subject: Subject) -> str:
    """How unevenly attention is spread, which percentiles hide."""
    fates = subject.fates
    if not len(fates):
        return "This slide has no tissue patches: there is no attention to show."
    unseen = int((fates.attention <= 0).sum())
    pruned = fates.counts.pruned
    why = ", pruned" if unseen == pruned else ", pruned by every model" if pruned else ""
    grey = f" Grey: no attention ({unseen:,} patches{why})." if unseen else ""
    return f"{concentration(fates.attention)}{grey} Pale: no patch."
