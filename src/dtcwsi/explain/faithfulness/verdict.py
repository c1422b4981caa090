"""What the means of maps say in sentences: each against its chance level, by its 95 % interval."""

from collections.abc import Mapping

from dtcwsi.explain.faithfulness.maps import MAPS
from dtcwsi.explain.faithfulness.table import Estimate

__all__ = ["verdicts"]

_QUESTIONS: Mapping[str, tuple[float, str, str, str]] = {
    "deletion_margin_gain": (
        0.0,
        "the decision rests on its top patches",
        "its top patches matter less to the decision than random ones",
        "taking its top patches away cannot be told from taking random ones",
    ),
    "insertion_margin_gain": (
        0.0,
        "its top patches alone bring the decision back sooner than random ones",
        "its top patches alone bring the decision back later than random ones",
        "its top patches alone bring the decision back no sooner, as far as can be told, than random ones",
    ),
    "lesion_auroc": (
        0.5,
        "it ranks lesion above the rest",
        "it ranks lesion below the rest",
        "it finds the lesion no better than chance, as far as can be told",
    ),
    "folds_top_tenth": (
        0.1,
        "other folds agree on its top tenth more than by chance",
        "other folds agree on its top tenth less than by chance",
        "other folds agree on its top tenth no more than by chance, as far as can be told",
    ),
    "redrawn_both": (
        0.0,
        "some of it stays when all weights are drawn anew, which is the network's build and not its training",
        "drawing all weights anew turns it round",
        "nothing of it stays when all weights are drawn anew, as it should be",
    ),
}
"""A measure's chance level, and the words for an interval above, below and around it."""


def verdicts(means: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Say of each map what its intervals allow; a measure without an interval is left out, and so is a map without any.

    Returns: a sentence a map, with the means in brackets.
    """
    found = []
    for name in MAPS:
        parts = [_part(means.get(name, {}).get(measure), *words) for measure, words in _QUESTIONS.items()]
        told = "; ".join(filter(None, parts))
        if told:
            found.append(f"**{name}**: {told}.")
    return found


def _part(found: Estimate | None, chance: float, above: str, below: str, around: str) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    words = above if found.low > chance else below if found.high < chance else around
    return f"{words} ({found.mean:.2f})"
