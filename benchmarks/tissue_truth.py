"""What each patch of a drawn slide shows: its class of tissue, and how much of it that tissue covers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic.artefacts import draw_pen
from dtcwsi.slides.synthetic.layout import CELL_PX, draw_layout
from dtcwsi.slides.synthetic.spec import LABELS, SyntheticSlide

__all__ = ["CLASSES", "PatchTruth", "truth_of"]

PEN, EDGE, OUTSIDE = "pen", "edge", "outside"
TISSUES = {
    **dict.fromkeys(LABELS, "lesion"),
    "glands": "epithelium",
    "fibrous_stroma": "stroma",
    "loose_stroma": "stroma",
    "smooth_muscle": "muscle",
    "adipose": "fat",
    "necrosis": "necrosis",
    "lymphocytes": "lymphocytes",
    "blood": "vessels",
    "glass": "vessels",
}
CLASSES = ("lesion", "epithelium", "stroma", "muscle", "fat", "necrosis", "lymphocytes", "vessels", EDGE, PEN)
INKED, INK_SHARE, EDGE_SHARE = 0.3, 0.1, 0.25


@dataclass(frozen=True)
class PatchTruth:
    """``kind`` (N,) indexes `CLASSES`; ``purity`` (N,) is the share of a patch that its most common tissue covers."""

    kind: NDArray[np.int64]
    purity: NDArray[np.float64]


def truth_of(slide: SyntheticSlide, coords: NDArray[np.int64], side: float) -> PatchTruth:
    """Name what patches (N, 2) of ``side`` level-0 pixels show, on the writer's grid of 16 px.

    The first that applies: pen, where ink covers a tenth or more; lesion, where it is the most common tissue; edge,
    where a quarter or more lies outside the tissue; else the most common tissue. Regions painted later hide earlier
    ones; borders are taken without their rags.
    """
    tissue, inked = _tissue(slide), _ink(slide)
    cells = max(1, round(side / CELL_PX))
    kinds, purity = [], []
    for x, y in coords // CELL_PX:
        box = (slice(y, y + cells), slice(x, x + cells))
        names, counts = np.unique(tissue[box][tissue[box] != OUTSIDE], return_counts=True)
        most = str(names[counts.argmax()]) if len(names) else "vessels"
        outside = 1 - counts.sum() / cells**2
        kind = PEN if inked[box].mean() > INK_SHARE else most
        if kind not in (PEN, "lesion") and outside >= EDGE_SHARE:
            kind = EDGE
        kinds.append(CLASSES.index(kind))
        purity.append(counts.max(initial=0) / cells**2)
    return PatchTruth(np.array(kinds, np.int64), np.array(purity))


def _tissue(slide: SyntheticSlide) -> NDArray[np.str_]:
    layout = draw_layout(slide)
    names = np.full(layout.inside_px.shape, "vessels", dtype="<U16")
    for region in (*layout.regions, layout.lesion):
        rows, columns = region.inside_px.shape
        box = names[region.row : region.row + rows, region.column : region.column + columns]
        box[region.inside_px[: box.shape[0], : box.shape[1]] > 0] = TISSUES[region.tissue]
    names[layout.inside_px <= 0] = OUTSIDE
    return names


def _ink(slide: SyntheticSlide) -> NDArray[np.bool_]:
    cells = slide.side_px // CELL_PX
    pen = draw_pen(slide.rng("pen"), cells)
    return np.zeros((cells, cells), np.bool_) if pen is None else np.asarray(pen.cover > INKED)
