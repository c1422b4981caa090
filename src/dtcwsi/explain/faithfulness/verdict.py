"""What the means of maps say in sentences: each against its chance level, by its 95 % interval."""

from collections.abc import Mapping

from dtcwsi.explain.faithfulness.maps import MAPS
from dtcwsi.explain.faithfulness.table import Estimate

__all__ = ["verdicts"]

_LEAST_SLIDES = 10
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
    "folds_spearman": (
        0.0,
        "other folds order the patches alike, more than by chance",
        "other folds order the patches the other way round",
        "other folds order the patches no more alike than by chance, as far as can be told",
    ),
    "redrawn_aggregator": (
        0.5,
        "most of it stays when the aggregator's weights are drawn anew: it is the compressor's, or the build's",
        "",
        "",
    ),
    "redrawn_both": (
        0.0,
        "some of it stays when all weights are drawn anew, which is the network's build and not its training",
        "drawing all weights anew turns it round",
        "nothing of it stays, as far as can be told, when all weights are drawn anew",
    ),
}
"""A measure's chance level, or what is told from it, and the words for an interval above, below and around it."""


def verdicts(means: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Say of each map what its intervals allow.

    A measure of fewer than ten slides, or without an interval, is left out, and so is a map without any.

    Returns: a sentence a map, with the means in brackets.
    """
    found = []
    for name in MAPS:
        parts = [
            _part(means.get(name, {}).get(measure), " logits" if "margin" in measure else "", *words)
            for measure, words in _QUESTIONS.items()
        ]
        told = "; ".join(filter(None, parts))
        if told:
            found.append(f"**{name}**: {told}.")
    return found


def _part(found: Estimate | None, unit: str, chance: float, above: str, below: str, around: str) -> str:
    if found is None or found.low is None or found.high is None or found.slides < _LEAST_SLIDES:
        return ""
    words = above if found.low > chance else below if found.high < chance else around
    return words and f"{words} ({found.mean:.2f}{unit})"
