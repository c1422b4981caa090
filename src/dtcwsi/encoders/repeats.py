"""Patches of a slide that are pixel for pixel alike are encoded once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["encode_once"]

_Pixels = NDArray[np.uint8]
_Rows = NDArray[np.float32]


def encode_once(
    batches: Iterable[tuple[_Pixels, Sequence[bytes]]],
    encode: Callable[[Iterable[_Pixels]], Iterator[_Rows]],
    row_at: Callable[[int], _Rows],
) -> Iterator[_Rows]:
    """Embed batches of patches and their digests; a patch whose digest came before gets the row of the first.

    ``encode`` embeds batches one after the other and sees no batch without a new patch. ``row_at`` gives a row that was
    yielded before, by its number; so that memory is a digest a patch.
    Yields: (N, dim) float32, a row a patch, in the order of the batches.
    """
    first: dict[bytes, int] = {}
    under_way: deque[NDArray[np.int64]] = deque()  # of each batch read, which patch of the slide each row is that of
    asked = given = 0

    def new() -> Iterator[_Pixels]:
        nonlocal asked
        for pixels, digests in batches:
            same_as = np.array([first.setdefault(each, asked + at) for at, each in enumerate(digests)], np.int64)
            is_new = same_as == np.arange(asked, asked + len(pixels))
            asked += len(pixels)
            under_way.append(same_as)
            if is_new.any():
                yield pixels if is_new.all() else pixels[is_new]

    def assembled(rows: _Rows | None) -> _Rows:
        nonlocal given
        same_as = under_way.popleft()
        own = same_as == np.arange(given, given + len(same_as))
        place = np.cumsum(own) - 1  # of a patch's row among the new ones of its batch
        made = [
            rows[place[same - given]] if rows is not None and same >= given else row_at(same)
            for same in same_as.tolist()
        ]
        given += len(same_as)
        return rows if rows is not None and own.all() else np.stack(made)

    def without_new(batch: NDArray[np.int64]) -> bool:
        return bool((batch < given).all())

    for rows in encode(new()):
        while without_new(under_way[0]):
            yield assembled(None)
        yield assembled(rows)
    while under_way:
        yield assembled(None)
