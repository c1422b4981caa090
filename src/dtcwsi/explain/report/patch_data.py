"""The patches of a slide, compact, for the script of the page."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import FATES, PatchFates
from dtcwsi.explain.figures.painting import FATE_COLOURS, GROUP_COLOURS, attention_colours
from dtcwsi.explain.slide_patches import SlidePatches

__all__ = ["patch_data"]


def patch_data(patches: SlidePatches, fates: PatchFates) -> dict[str, Any]:
    """Lay out N patches as little-endian arrays in base64, each with its type: 32 bytes a patch at three stages.

    ``tokens`` are those of every stage, one after another: (stages, N). ``percentile`` is in hundredths.
    """
    arrays: dict[str, tuple[str, NDArray[Any]]] = {
        "x": ("Int32", patches.coords[:, 0]),
        "y": ("Int32", patches.coords[:, 1]),
        "attention": ("Float32", fates.attention),
        "percentile": ("Uint16", np.round(100 * fates.percentile)),
        "fate": ("Uint8", fates.fate),
        "stage": ("Uint8", fates.stage),
        "tokens": ("Int32", fates.by_stage.ravel()),
    }
    if fates.importance is not None:
        arrays["importance"] = ("Float32", fates.importance)
    return {
        "count": len(fates),
        "stages": len(fates.by_stage),
        "size": patches.patch_size_level0,
        "spacingUm": patches.spacing_um,
        "origin": list(patches.origin_level0),
        "width": patches.width_level0,
        "fates": list(FATES),
        "fateColours": [FATE_COLOURS[name] for name in FATES],
        "groupColours": GROUP_COLOURS.tolist(),
        "attentionColours": attention_colours().ravel().tolist(),
        "arrays": {name: {"type": kind, "base64": _encoded(kind, values)} for name, (kind, values) in arrays.items()},
    }


def _encoded(kind: str, values: NDArray[Any]) -> str:
    return base64.b64encode(values.astype(np.dtype(kind.lower()).newbyteorder("<")).tobytes()).decode()
