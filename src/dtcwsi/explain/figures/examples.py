"""Which patches are shown as examples: the clearest of their kind, spread over the slide, the same every time.

Of the groups, kept or pruned patches of a slide, the quarter that shows its kind best are candidates, four times as
many as are wanted at least. The best of all is shown first; then, again and again, the candidate farthest from those
shown. Ties go to the better, then to the earlier patch.
"""

import numpy as np
from numpy.typing import NDArray

from dtcwsi.explain.fates import KEPT, PRUNED, PatchFates

__all__ = ["choose_groups", "choose_kept", "choose_pruned", "choose_top"]


def choose_groups(fates: PatchFates, coords: NDArray[np.int64], wanted: int) -> list[NDArray[np.int64]]:
    """Choose groups of patches that were merged into one token; those of many patches show best.

    Groups that were pruned later are taken only where no other is left.  Returns: the patches of each group, in order.
    """
    if not len(fates):
        return []
    size, first = np.unique(fates.group, return_index=True, return_counts=True)[2:0:-1]
    alive = (size > 1) & (fates.token[first] >= 0)
    groups = np.flatnonzero(alive if alive.any() else size > 1)
    centre = np.stack([np.bincount(fates.group, coords[:, axis]) / size for axis in (0, 1)], axis=1)
    chosen = _spread(centre[groups], size[groups].astype(np.float64), wanted)
    return [np.flatnonzero(fates.group == groups[number]) for number in chosen]


def choose_pruned(
    fates: PatchFates, coords: NDArray[np.int64], importance: NDArray[np.float64] | None, wanted: int
) -> NDArray[np.int64]:
    """Choose pruned patches: those of least importance, or those that left first if the model has none."""
    pruned = np.flatnonzero(fates.fate == PRUNED)
    worth = -(importance if importance is not None else fates.stage.astype(np.float64))
    return pruned[_spread(coords[pruned], worth[pruned], wanted)]


def choose_kept(fates: PatchFates, coords: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Choose patches that are tokens of their own: those of most attention."""
    kept = np.flatnonzero(fates.fate == KEPT)
    return kept[_spread(coords[kept], fates.attention[kept], wanted)]


def choose_top(fates: PatchFates, wanted: int) -> NDArray[np.int64]:
    """Choose the patches of most attention, wherever they lie; none without any."""
    best = np.argsort(-fates.attention, kind="stable")[:wanted]
    return best[fates.attention[best] > 0]


def _spread(places: NDArray[np.generic], worth: NDArray[np.float64], wanted: int) -> list[int]:
    """Number the chosen ones, as the module says."""
    candidates = np.argsort(-worth, kind="stable")[: max(4 * wanted, len(worth) // 4)]
    chosen: list[int] = []
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < min(wanted, len(candidates)):
        at = int(nearest.argmax())
        chosen.append(int(candidates[at]))
        nearest = np.minimum(nearest, np.linalg.norm(places[candidates].astype(float) - places[candidates[at]], axis=1))
        nearest[at] = -1.0
    return chosen
