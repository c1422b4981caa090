"""The patches of a slide, compact, for the script of the page."""

import base64
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.explain.figures.painting import FATE_COLOURS, GROUP_COLOURS, attention_colours
from dtcwsi.explain.slide import ExplainedSlide

__all__ = ["patch_data"]

_Arrays = dict[str, tuple[str, NDArray[Any]]]


def patch_data(slide: ExplainedSlide) -> dict[str, Any]:
    """Lay out a slide's N patches, and what became of them by the first model at each retention and by all as trained.

    Arrays are little-endian, deflated (zlib) and in base64, each with its type; a retention's ``tokens`` are those of
    every stage, one after another: (stages, N). ``percentile`` is in hundredths. ``trained`` is the place of what all
    models say, as they were trained, among the ``budgets``; ``short`` is what stands under the slider.
    """
    patches, fates = slide.patches, slide.fates
    arrays: _Arrays = {"x": ("Int32", patches.coords[:, 0]), "y": ("Int32", patches.coords[:, 1])}
    if fates.importance is not None:
        arrays["importance"] = ("Float32", fates.importance)
    stops = list(_stops(slide))
    return {
        "count": len(fates),
        "size": patches.patch_size_level0,
        "spacingUm": patches.spacing_um,
        "origin": list(patches.origin_level0),
        "width": patches.width_level0,
        "fates": list(FATES),
        "fateColours": [FATE_COLOURS[name] for name in FATES],
        "groupColours": GROUP_COLOURS.tolist(),
        "attentionColours": attention_colours().ravel().tolist(),
        "arrays": _encoded(arrays),
        "trained": [stop.fates is fates for stop in stops].index(True),
        "budgets": [_laid_out(stop) for stop in stops],
    }


class _Stop(NamedTuple):
    """A place of the slider over retentions: its name, what is said there, whose words these are, and the fates."""

    short: str
    told: str
    first_alone: bool
    fates: PatchFates


def _stops(slide: ExplainedSlide) -> Iterator[_Stop]:
    """Give the first model's budgets, and what all models say, in its own one's place if there is but one model."""
    said = f"{slide.prediction} {slide.probability:.2f}"
    many = slide.n_models > 1
    for budget in slide.budgets:
        short = "" if budget.retention is None else f"{budget.retention:.3g}"
        whose = ", first model alone" if many else ""
        fates = slide.fates if budget.trained and not many else budget.fates
        yield _Stop(short, f"{budget.name}: {budget.told}{whose}", many, fates)
    if many or not slide.budgets:
        whose = f", mean of {slide.n_models} models" if many else ""
        yield _Stop("mean" if many else "", f"as trained: {said}{whose}", False, slide.fates)


def _laid_out(stop: _Stop) -> dict[str, Any]:
    fates = stop.fates
    arrays: _Arrays = {
        "attention": ("Float32", fates.attention),
        "percentile": ("Uint16", np.round(100 * fates.percentile)),
        "fate": ("Uint8", fates.fate),
        "stage": ("Uint8", fates.stage),
        "tokens": ("Int32", fates.by_stage.ravel()),
    }
    told = {"short": stop.short, "told": stop.told, "firstAlone": stop.first_alone}
    return {**told, "stages": len(fates.by_stage), "arrays": _encoded(arrays)}


def _encoded(arrays: _Arrays) -> dict[str, dict[str, str]]:
    return {name: {"type": kind, "base64": _deflated(kind, values)} for name, (kind, values) in arrays.items()}


def _deflated(kind: str, values: NDArray[Any]) -> str:
    stored = values.astype(np.dtype(kind.lower()).newbyteorder("<")).tobytes()
    return base64.b64encode(zlib.compress(stored)).decode()
