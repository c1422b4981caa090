"""Slides that hold the same patches twice: copies, rescans of one file under two names, regions cut from one slide."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["NearDuplicate", "near_duplicates", "sketch_of"]

_BITS, _KEPT, _COMMON = 32, 512, 50
_SHARED = 0.5


@dataclass(frozen=True)
class NearDuplicate:
    """Two slides, ``share`` of whose patches (of the smaller one, estimated) are alike."""

    one: str
    other: str
    share: float


def sketch_of(features: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Boil a slide's features (patches, dim) down to at most 512 numbers, the same whatever the order of patches.

    A patch's number is the signs of 32 fixed random projections of its difference to the slide's mean (a lone patch's
    own), mixed; the
    smallest distinct ones are kept, so that sketches share as large a part as the slides do (bottom-k MinHash). Small
    changes, such as rounding to 16 bits, leave most signs as they are.
    """
    if not len(features):
        return np.zeros(0, np.uint32)
    rows = np.asarray(features, np.float32)
    directions = np.random.default_rng(0).standard_normal((rows.shape[1], _BITS)).astype(np.float32)
    centre = rows.mean(axis=0) if len(rows) > 1 else np.float32(0)
    signs = (rows - centre) @ directions > 0
    numbers = (signs.astype(np.uint64) << np.arange(_BITS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return np.unique(_mixed(numbers))[:_KEPT]


def near_duplicates(sketches: Iterable[tuple[str, NDArray[np.uint32]]]) -> Iterator[NearDuplicate]:
    """Find pairs of slides that share half of the smaller one's patches or more, the most alike first.

    Numbers that more than 50 slides share, as of blank glass, tell nothing and are left out.
    """
    named = list(sketches)
    if not named:
        return
    names, lists = [name for name, _ in named], [sketch for _, sketch in named]
    lengths = np.array([len(one) for one in lists])
    numbers, column = np.unique(np.concatenate(lists), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    held = csr_array((np.ones(len(column), np.int32), column, starts), shape=(len(names), len(numbers)))
    held = held[:, np.flatnonzero(held.sum(axis=0) <= _COMMON)]
    left = held.sum(axis=1)
    shared = (held @ held.T).tocoo()
    one, other = shared.row, shared.col
    smaller, before = np.minimum(left[one], left[other]), np.minimum(lengths[one], lengths[other])
    share = shared.data / np.maximum(smaller, 1)
    chosen = np.flatnonzero((one < other) & (share >= _SHARED) & (smaller >= _SHARED * before))
    for pair in chosen[np.argsort(-share[chosen], kind="stable")]:
        yield NearDuplicate(names[one[pair]], names[other[pair]], float(share[pair]))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Spread numbers over all 32-bit ones, each to one, so that the smallest are a fair draw."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)).astype(np.uint32)
