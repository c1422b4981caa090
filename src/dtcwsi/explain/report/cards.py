"""A slide as the page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtcwsi.explain.figures.painting import attention_colours
from dtcwsi.explain.report.cases import Said
from dtcwsi.explain.report.patch_data import patch_data
from dtcwsi.explain.report.runs import RunSummary
from dtcwsi.explain.slide import ExplainedSlide

__all__ = ["Card", "card_of", "gradient"]

_GRADIENT_STEPS = 10


@dataclass(frozen=True)
class Card:
    """A slide with its patches for the script, None without any.

    ``held_out`` is None if no run of its model has it, or if the pictures are of no other models.
    """

    slide: ExplainedSlide
    held_out: Said | None
    data: Mapping[str, Any] | None


def card_of(slide: ExplainedSlide, runs: Mapping[str, RunSummary]) -> Card:
    """Put a slide's patches into the page, and look up what the run of its model said when it held the slide out."""
    data = patch_data(slide) if slide.tokens_in else None
    run = next((run for run in runs.values() if run.model == slide.model and slide.slide_id in run.slide_ids), None)
    if run is None or slide.unseen:
        return Card(slide, None, data)
    chances = run.probabilities[[each == slide.slide_id for each in run.slide_ids]].mean(axis=0)
    return Card(slide, Said(run.classes[int(chances.argmax())], float(chances.max())), data)


def gradient() -> str:
    """Write the colours of attention as the stops of a CSS gradient."""
    colours = attention_colours()
    chosen = colours[np.linspace(0, len(colours) - 1, _GRADIENT_STEPS).round().astype(int)].tolist()
    return ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in chosen)
