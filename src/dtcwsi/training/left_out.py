"""Slides of a cohort that are not trained on, and why."""

from collections.abc import Sequence

from dtcwsi.bags.cohort import Cohort

__all__ = ["left_out", "left_out_sentences", "some"]

_NAMED = 5


def left_out(cohort: Cohort) -> dict[str, str]:
    """Give the reason of each slide that is left out."""
    return {
        **dict.fromkeys(cohort.without_features, "no feature file"),
        **dict.fromkeys(cohort.without_label, "no row in the labels table"),
        **dict.fromkeys(cohort.no_tissue, "no tissue"),
        **cohort.refused,
    }


def left_out_sentences(cohort: Cohort) -> list[str]:
    """Write one sentence a reason, since a whole archive may have no label."""
    slides_of: dict[str, list[str]] = {}
    for slide, reason in left_out(cohort).items():
        slides_of.setdefault(reason, []).append(slide)
    return [
        f"{len(slides)} slide{'s' * (len(slides) != 1)} left out, {reason}: {some(slides)}"
        for reason, slides in slides_of.items()
    ]


def some(names: Sequence[str]) -> str:
    """List the first names, and show whether there are more."""
    return ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
