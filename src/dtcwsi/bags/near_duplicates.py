"""Slides that hold the same patches: copies under two names, regions cut from one slide."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["NearDuplicate", "Sketch", "near_duplicates", "sketch_of"]

Sketch = Mapping[int, NDArray[np.uint32]]
"""At most 512 numbers for each of two widths of strips, by the width's power of two."""

_BITS, _KEPT, _COMMON = 32, 512, 50
_SHARED, _ENOUGH, _NO_SPREAD = 0.5, 16, 1e-4


@dataclass(frozen=True)
class NearDuplicate:
    """Two slides, ``share`` of whose patches (of the smaller one, estimated) are alike."""

    one: str
    other: str
    share: float


def sketch_of(features: NDArray[np.floating]) -> Sketch:
    """Boil a slide's features (patches, dim) down to few numbers, the same whatever the order of patches.

    A patch's number says of 32 fixed random projections in which of many alternating strips it lies, mixed; the
    smallest distinct ones are kept, so that sketches share as large a part as the slides do (bottom-k MinHash). Strips
    are as wide as the two powers of two on either side of how far the slide's patches are spread, so that a part of a
    slide, whose spread is another, has one of the two widths in common with it. Small changes, such as rounding to 16
    bits, leave most patches where they are.
    """
    if not len(features):
        return {}
    rows = np.asarray(features, np.float32)
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((rows.shape[1], _BITS)).astype(np.float32)
    projected = (rows @ directions).astype(np.float64)
    level, spread = np.abs(projected).mean(), projected.std(axis=0).mean()
    spread = level if spread < _NO_SPREAD * level else spread  # of a lone patch, or of copies of one
    below, shifts = int(np.floor(np.log2(spread))) if spread > 0 else 0, generator.random(_BITS)
    return {power: _numbers(projected / 2.0**power + shifts) for power in (below, below + 1)}


def _numbers(places: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Name the combination of strips that each patch (patches, 32) is in, and keep the smallest names."""
    strips = np.floor(places) % 2 > 0
    numbers = (strips.astype(np.uint64) << np.arange(_BITS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return np.unique(_mixed(numbers))[:_KEPT]


def near_duplicates(sketches: Iterable[tuple[str, Sketch]]) -> Iterator[NearDuplicate]:
    """Find pairs of slides that share half of the smaller one's patches or more, the most alike first.

    Slides are compared where their sketches have a width in common. Numbers that more than 50 slides share, as of blank
    glass, tell nothing and are left out.
    """
    by_width: dict[int, list[tuple[str, NDArray[np.uint32]]]] = {}
    for name, sketch in sketches:
        for power, numbers in sketch.items():
            by_width.setdefault(power, []).append((name, numbers))
    most: dict[tuple[str, str], NearDuplicate] = {}
    for named in by_width.values():
        for pair in _alike(named):
            known = most.setdefault((pair.one, pair.other), pair)
            most[pair.one, pair.other] = max(known, pair, key=lambda one: one.share)
    yield from sorted(most.values(), key=lambda pair: (-pair.share, pair.one, pair.other))


def _alike(named: Sequence[tuple[str, NDArray[np.uint32]]]) -> Iterator[NearDuplicate]:
    """Compare slides at one width."""
    names, lists = [name for name, _ in named], [sketch for _, sketch in named]
    numbers, column = np.unique(np.concatenate(lists), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    rare = np.bincount(column, minlength=len(numbers)) <= _COMMON
    held = csr_array((np.ones(len(column), np.int32), column, starts), shape=(len(names), len(numbers)))
    held = held[:, np.flatnonzero(rare)]
    telling = [one[rare[column[start:end]]] for one, start, end in zip(lists, starts, starts[1:], strict=False)]
    shared = (held @ held.T).tocoo()
    full, most = np.array([len(one) == _KEPT for one in lists]), np.array([len(one) for one in telling])
    least = np.minimum(most[shared.row], most[shared.col])
    least = _SHARED * np.where(full[shared.row] | full[shared.col], np.minimum(least, _ENOUGH), least)
    likely = np.flatnonzero((shared.row < shared.col) & (shared.data >= least))
    triples = zip(*(each[likely].tolist() for each in (shared.row, shared.col, shared.data)), strict=True)
    for one, other, count in triples:
        share = _share(lists, telling, one, other, count)
        if share >= _SHARED:
            yield NearDuplicate(names[one], names[other], share)


def _share(
    lists: list[NDArray[np.uint32]], telling: list[NDArray[np.uint32]], one: int, other: int, shared: int
) -> float:
    """Estimate what share of the smaller slide's patches the other has; 0 where too little is known.

    A full sketch leaves out all numbers beyond its last: up to there both slides are told whole.
    """
    lasts = [lists[each][-1] for each in (one, other) if len(lists[each]) == _KEPT]
    last = min(lasts, default=np.uint32(2**32 - 1))
    before, left = (
        min(int(np.searchsorted(each[place], last, side="right")) for place in (one, other))
        for each in (lists, telling)
    )
    enough = left >= max(1, _SHARED * before) and (not lasts or left >= _ENOUGH)
    return shared / left if enough else 0.0


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Spread numbers over all 32-bit ones, so that the smallest are a fair draw."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)).astype(np.uint32)
