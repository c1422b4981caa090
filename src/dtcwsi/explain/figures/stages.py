"""Tokens by stage: the slide after each stage of the first model."""

import numpy as np

from dtcwsi.explain.fates import PatchFates
from dtcwsi.explain.figures.compression import fate_legend, told_ratio
from dtcwsi.explain.figures.furniture import Panel, headed_page, legend, note, plural, show_panels
from dtcwsi.explain.figures.page import Page
from dtcwsi.explain.figures.subject import Subject

__all__ = ["draw_stages", "shown_stages"]

_MOST_PANELS = 8
_TINTED = (
    "Merged patches have one colour a token; groups that touch differ. The legend counts what is left after the last "
    "stage. "
)


def draw_stages(subject: Subject) -> Page:
    """Draw all patches, and what is left of them after each stage, merge groups coloured and what was pruned dark."""
    stages = subject.inside.stages
    shown = shown_stages(len(stages))
    panels = [Panel(subject.canvas.picture, f"Before: {plural(len(subject.coords), 'patch')}")]
    panels += [Panel(subject.after_stage(stage), f"After stage {stage}: {_left(stages[stage - 1])}") for stage in shown]
    columns = min(4, len(panels))
    page = headed_page(subject, f"{subject.heading.fates_of}: {told_ratio(stages[-1])}", columns=columns)
    show_panels(page, subject.canvas, panels, columns=columns)
    legend(page, fate_legend(stages[-1], None))
    left_out = "" if len(shown) == len(stages) else f"{len(shown)} of {len(stages)} stages are shown. "
    note(
        page,
        f"{left_out}{_TINTED if stages[-1].counts.tokens_out < len(stages[-1]) else ''}{subject.heading.fates_note}",
    )
    return page


def shown_stages(count: int) -> list[int]:
    """Choose the stages to draw, counted from 1: all, or seven spread evenly with the first and the last."""
    spread = np.linspace(1, count, min(count, _MOST_PANELS - 1)).round().astype(int)
    return [int(stage) for stage in np.unique(spread)]


def _left(fates: PatchFates) -> str:
    counts = fates.counts
    return f"{plural(counts.tokens_out, 'token')}, {plural(counts.merged, 'patch')} merged, {counts.pruned:,} pruned"
