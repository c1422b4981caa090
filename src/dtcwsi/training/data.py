"""Feature files as batches, kept in memory up to a limit."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from dtcwsi.bags.packing import join, load_bag, pack
from dtcwsi.bags.sampler import Pass
from dtcwsi.errors import FeaturesError
from dtcwsi.store.digest import fingerprint
from dtcwsi.types import Bag, PackedBags

__all__ = ["DEFAULT_CACHE_BYTES", "SlideBatch", "SlideFeatures", "SlidesOneByOne"]

DEFAULT_CACHE_BYTES = 4 << 30


@dataclass(frozen=True)
class SlideBatch:
    """The bags of one pass, labels included, and the pass's place in its batch."""

    bags: PackedBags
    part: Pass


class SlideFeatures(Dataset[SlideBatch]):
    """Labelled slides, indexed by `Pass`.

    Slides are kept in memory once read until they fill ``cache_bytes`` (4 GiB); further ones are read from disk each
    time. ``labels`` are class numbers, ``sizes`` the slides' numbers of patches.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        sizes: Sequence[int],
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.files, self.labels, self.sizes = list(files), list(labels), list(sizes)
        self._room = self._cache_bytes = cache_bytes
        self._kept: dict[int, PackedBags] = {}
        self.read_seconds = 0.0
        self.reads = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is kept in memory: another process reads what it needs."""
        return {**self.__dict__, "_kept": {}, "_room": self._cache_bytes}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, part: Pass) -> SlideBatch:
        """Read a pass's slides as one packed batch.  Raises: FeaturesError if a file cannot be used any more."""
        return SlideBatch(join([self.slide(index) for index in part.slides]), part)

    def slide(self, index: int) -> PackedBags:
        """Read one slide, or take it from memory.  Raises: FeaturesError if its file cannot be used."""
        if index in self._kept:
            return self._kept[index]
        began = time.perf_counter()
        bag = load_bag(self.files[index], self.labels[index])
        self.read_seconds += time.perf_counter() - began
        self.reads += 1
        packed = pack([_placed(bag)])
        size = packed.features.nbytes
        if size <= self._room:
            self._room -= size
            self._kept[index] = packed
        return packed

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """Each file's `fingerprint`, taken when first asked for.  Raises: OSError if a file cannot be read."""
        return tuple(fingerprint(path) for path in self.files)

    def release(self) -> None:
        """Forget the slides that are kept in memory."""
        self._kept, self._room = {}, self._cache_bytes

    def unusable(self) -> dict[int, str]:
        """Read every slide once and say which cannot be used, and why."""
        reasons: dict[int, str] = {}
        for index in range(len(self)):
            try:
                self.slide(index)
            except FeaturesError as error:
                reasons[index] = str(error)
        return reasons


class SlidesOneByOne:
    """Some of the slides, read one after another."""

    def __init__(self, features: SlideFeatures, slides: Sequence[int]) -> None:
        self._features, self._slides = features, slides

    def __len__(self) -> int:
        return len(self._slides)

    def __iter__(self) -> Iterator[PackedBags]:
        return (self._features.slide(index) for index in self._slides)


def _placed(bag: Bag) -> Bag:
    """Put a bag's patches in spatial order once, so that no step has to."""
    order = pack([bag]).order
    if order is None or bag.coords is None:
        return bag
    return replace(bag, features=torch.index_select(bag.features, 0, order), coords=bag.coords[order])
