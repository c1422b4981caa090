"""The patches of a slide, compact, for the script of the page."""

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.explain.figures.painting import FATE_COLOURS, GROUP_COLOURS, attention_colours
from dtcwsi.explain.slide import ExplainedSlide

__all__ = ["patch_data"]

Arrays = dict[str, tuple[str, NDArray[Any]]]


def patch_data(slide: ExplainedSlide) -> dict[str, Any]:
    """Lay out a slide's N patches, and what became of them at each retention that is known, the largest first.

    Arrays are little-endian, deflated (zlib) and in base64, each with its type; a retention's ``tokens`` are those of
    every stage, one after another: (stages, N). ``percentile`` is in hundredths. ``trained`` is the place of the budget
    that the models were trained at, among the ``budgets``.
    """
    patches, fates = slide.patches, slide.fates
    arrays: Arrays = {"x": ("Int32", patches.coords[:, 0]), "y": ("Int32", patches.coords[:, 1])}
    if fates.importance is not None:
        arrays["importance"] = ("Float32", fates.importance)
    views = sorted(_views(slide), key=lambda view: -view[0])
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
        "trained": [own is fates for _, _, own in views].index(True),
        "budgets": [_budget(told, own) for _, told, own in views],
    }


def _views(slide: ExplainedSlide) -> Iterator[tuple[float, str, PatchFates]]:
    """Give retention, words and fates: of all models as they were trained, of the first at other retentions."""
    together, alone = ("", "") if slide.n_models == 1 else (f", mean of {slide.n_models} models", ", first model alone")
    retention = "" if slide.retention is None else f"r = {slide.retention:g}, "
    told = f"{retention}as trained: {slide.prediction} {slide.probability:.2f}{together}"
    yield slide.retention or 1.0, told, slide.fates
    for budget in slide.budgets:
        if budget.retention is not None:
            yield budget.retention, f"{budget.name}: {budget.told}{alone}", budget.fates


def _budget(told: str, fates: PatchFates) -> dict[str, Any]:
    arrays: Arrays = {
        "attention": ("Float32", fates.attention),
        "percentile": ("Uint16", np.round(100 * fates.percentile)),
        "fate": ("Uint8", fates.fate),
        "stage": ("Uint8", fates.stage),
        "tokens": ("Int32", fates.by_stage.ravel()),
    }
    return {"told": told, "stages": len(fates.by_stage), "arrays": _encoded(arrays)}


def _encoded(arrays: Arrays) -> dict[str, dict[str, str]]:
    return {name: {"type": kind, "base64": _deflated(kind, values)} for name, (kind, values) in arrays.items()}


def _deflated(kind: str, values: NDArray[Any]) -> str:
    stored = values.astype(np.dtype(kind.lower()).newbyteorder("<")).tobytes()
    return base64.b64encode(zlib.compress(stored)).decode()
