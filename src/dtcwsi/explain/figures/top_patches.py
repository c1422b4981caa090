"""The patches of most attention, one by one."""

from dtcwsi.explain.fates import FATES, told_share
from dtcwsi.explain.figures.compression import NO_SLIDE
from dtcwsi.explain.figures.examples import choose_top
from dtcwsi.explain.figures.furniture import (
    SMALL,
    LegendEntry,
    Place,
    headed_page,
    lay_out,
    legend,
    mark,
    note,
    show_panels,
    slide_panel,
    strip_scale,
)
from dtcwsi.explain.figures.page import INK, SOFT, Page
from dtcwsi.explain.figures.painting import FATE_COLOURS
from dtcwsi.explain.figures.subject import Subject

__all__ = ["draw_top_patches"]

_WANTED = 12
_BESIDE, _BELOW = 4, 6
_FRAME = 9


def draw_top_patches(subject: Subject) -> Page:
    """Draw the twelve patches of most attention over all models: share, place in level-0 pixels, fate, class.

    The class is the one in whose own map of the first model the patch has most, if the method has one map a class.
    """
    fates = subject.fates
    best = choose_top(fates, _WANTED)
    share = told_share(float(fates.attention[best].sum()))
    held = f"; the {len(best)} patches shown hold {share} of the attention" if len(best) else ""
    page = headed_page(subject, f"{subject.heading.attention_of}{held}", columns=3)
    place = show_panels(page, subject.canvas, [slide_panel(subject)], columns=3)[0]
    ranked = enumerate(best.tolist(), start=1)
    examples = [(patch, FATE_COLOURS[FATES[fates.fate[patch]]], str(rank)) for rank, patch in ranked]
    mark(page, subject, place, examples)
    if len(best):
        _sheet(page, subject, best.tolist(), place)
        there = [name for number, name in enumerate(FATES) if (fates.fate[best] == number).any()]
        legend(page, [LegendEntry(name, ((255, 255, 255),), FATE_COLOURS[name]) for name in there])
        missing = f"{NO_SLIDE} " if subject.slide is None else ""
        note(
            page,
            f"{missing}Frames tell what became of a patch in {subject.heading.fates_of}. Places are level-0 pixels "
            f"(x, y) of the top-left corner. {subject.heading.fates_note}",
        )
    else:
        note(page, "This slide has no tissue patches.")
    return page


def _sheet(page: Page, subject: Subject, patches: list[int], slide: Place) -> None:
    """Show the patches beside the slide, or under it if it is wide."""
    beside = slide.width < page.inner / 2
    start = lay_out(page, 3)[0][1] if beside else page.margin
    across = _BESIDE if beside else _BELOW
    slot = (page.width - page.margin - start) / across
    side, line = int(slot - page.px(48)), page.px(_FRAME)
    crops = subject.crops(patches)
    bottom = float(slide.top) if beside else page.bottom
    for begin in range(0, len(patches), across):
        top = round(bottom + (page.px(24) if begin or not beside else 0))
        below = top + (side + 2 * line + page.px(6) if crops else 0)
        for column, patch in enumerate(patches[begin : begin + across]):
            left = round(start + column * slot)
            if crops:
                page.show(crops[begin + column], left + line, top + line, (side, side))
                frame = FATE_COLOURS[FATES[subject.fates.fate[patch]]]
                page.box(left, top, side + 2 * line, side + 2 * line, edge=frame, line=line)
            told = _caption(page, subject, patch, begin + column + 1, left, below, slot - page.px(20))
            bottom = max(bottom, told)
    if crops:
        strip_scale(page, subject, start, side)


def _caption(page: Page, subject: Subject, patch: int, rank: int, left: float, top: float, width: float) -> float:
    share, (x, y) = subject.fates.attention[patch], subject.coords[patch].tolist()
    bottom = page.write(
        f"{rank}.  {share:.2%}" if share >= 5e-5 else f"{rank}.  < 0.01%",
        left,
        top,
        width,
        size=SMALL,
        bold=True,
        colour=INK,
    )
    bottom = page.write(
        f"{share * len(subject.fates):.2g} × mean, {_class_of(subject, patch)}", left, bottom, width, size=SMALL
    )
    return page.write(f"{x:,}, {y:,}", left, bottom, width, size=SMALL, colour=SOFT)


def _class_of(subject: Subject, patch: int) -> str:
    by_class = subject.inside.prediction.attention_by_class
    fate = FATES[subject.fates.fate[patch]]
    return fate if by_class is None else f"{fate}, for {subject.class_names[int(by_class[patch].argmax())]}"
