"""What became of each patch of one slide, and how much attention it got."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.types import Prediction

__all__ = [
    "FATES",
    "KEPT",
    "MERGED",
    "PRUNED",
    "FateCounts",
    "PatchFates",
    "attention_percentile",
    "concentration",
    "fates_of",
    "told_share",
]

FATES = ("kept", "merged", "pruned")
KEPT, MERGED, PRUNED = range(3)


@dataclass(frozen=True)
class FateCounts:
    """A slide in numbers: ``tokens_in`` = ``kept`` + ``merged`` + ``pruned`` patches.

    ``tokens_out`` = ``kept`` + ``merged_tokens``, the tokens that hold several patches.
    """

    tokens_in: int
    tokens_out: int
    kept: int
    merged: int
    merged_tokens: int
    pruned: int


@dataclass(frozen=True)
class PatchFates:
    """The fate of N patches, in the order of the patches given; every array is (N,).

    ``fate`` indexes `FATES`: kept is a token of its own, merged shares a token, pruned is in none. ``stage`` is when
    the patch first shared a token (merged) or left (pruned), counted from 1; 0 if kept. ``token`` is the index of its
    token, -1 if pruned. ``group`` is alike for patches that were one token when last seen, pruned later or not.
    ``attention`` is each patch's share; ``percentile`` its standing among the slide's patches, 0 to 100. ``importance``
    is the compressor's first-stage share of each patch, ``mass`` that of all patches in its token, 0 once pruned; both
    None where the model does not score patches.
    ``by_stage`` (stages, N) is like ``token`` after each stage; no stage where nothing is known of them.
    """

    fate: NDArray[np.int8]
    stage: NDArray[np.int64]
    token: NDArray[np.int64]
    group: NDArray[np.int64]
    attention: NDArray[np.float64]
    percentile: NDArray[np.float64]
    importance: NDArray[np.float64] | None = None
    mass: NDArray[np.float64] | None = None
    by_stage: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def __len__(self) -> int:
        return len(self.fate)

    @property
    def group_size(self) -> NDArray[np.int64]:
        """How many patches are in the group of each patch."""
        return np.bincount(self.group)[self.group] if len(self) else np.zeros(0, np.int64)

    @property
    def counts(self) -> FateCounts:
        """How many patches and tokens had which fate."""
        return FateCounts(
            tokens_in=len(self),
            tokens_out=len(np.unique(self.token[self.token >= 0])),
            kept=int((self.fate == KEPT).sum()),
            merged=int((self.fate == MERGED).sum()),
            merged_tokens=len(np.unique(self.token[self.fate == MERGED])),
            pruned=int((self.fate == PRUNED).sum()),
        )

    def with_attention(self, attention: NDArray[np.float64]) -> "PatchFates":
        """Copy the fates with another attention, such as the mean over several models."""
        return replace(self, attention=attention, percentile=attention_percentile(attention))


def fates_of(prediction: Prediction, bag: int = 0) -> PatchFates:
    """Read the fates of one bag's patches from a prediction; all are kept where the model does not compress."""
    rows = slice(int(prediction.offsets[bag]), int(prediction.offsets[bag + 1]))
    token = _array(prediction.patch_to_token[rows])
    by_stage = _array(prediction.tokens_by_stage[:, rows])
    attention = _array(prediction.attention[rows]).astype(np.float64)
    size = np.bincount(token[token >= 0], minlength=1)
    fate = np.where(token < 0, PRUNED, np.where(size[token.clip(0)] > 1, MERGED, KEPT)).astype(np.int8)
    last_seen = (by_stage >= 0).sum(axis=0)
    stage = np.where(fate == KEPT, 0, _array(prediction.patch_stage[rows]))
    return PatchFates(
        fate=fate,
        stage=np.where(fate == PRUNED, last_seen + 1, stage),
        token=token,
        group=_groups(by_stage, last_seen),
        attention=attention,
        percentile=attention_percentile(attention),
        importance=_rows(prediction.importance, rows),
        mass=_rows(prediction.mass, rows),
        by_stage=by_stage,
    )


def concentration(attention: NDArray[np.float64]) -> str:
    """Say how unevenly attention (N,) is spread, which percentiles and ranks hide."""
    top = -(-len(attention) // 10)
    share = float(np.sort(attention)[-top:].sum())
    return f"The tenth of the patches with the most attention holds {told_share(share)} of it."


def told_share(share: float) -> str:
    """Write a share as a percentage that says 0% of nothing and 100% of the whole alone."""
    if 0.999 < share < 1 - 1e-6:  # attention is float32
        return "over 99.9%"
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if 0.1 <= share <= 0.99 or share in (0, 1) or share > 0.999 else f"{share:.1%}"


def attention_percentile(attention: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank attention within a slide: the percentage of the other patches that have less, ties counted half.

    Patches without any attention are 0. A patch alone is 100.
    """
    if len(attention) < 2:
        return np.where(attention > 0, 100.0, 0.0)
    ordered = np.sort(attention)
    below = np.searchsorted(ordered, attention, side="left")
    not_above = np.searchsorted(ordered, attention, side="right")
    ties = not_above - below - 1
    return np.where(attention > 0, 100.0 * (below + ties / 2) / (len(attention) - 1), 0.0)


def _groups(by_stage: NDArray[np.int64], last_seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the tokens in which patches were last seen; a patch gone at the first stage is a group of its own."""
    n_patches = by_stage.shape[1]
    column = np.arange(n_patches)
    seen = last_seen > 0
    token = np.where(seen, by_stage[(last_seen - 1).clip(0), column], column) if len(by_stage) else column
    _, group = np.unique(last_seen * (n_patches + 1) + token, return_inverse=True)
    return np.asarray(group, np.int64)


def _rows(values: Tensor | None, rows: slice) -> NDArray[np.float64] | None:
    return None if values is None else _array(values[rows]).astype(np.float64)


def _array(tensor: Tensor) -> NDArray[np.int64]:
    return np.asarray(tensor.detach().cpu().numpy())
