"""Which slides share an optimiser step, and in how many passes they are computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.utils.data import Sampler

from dtcwsi.errors import OptionError

__all__ = ["Pass", "PassSampler", "check_whole_batches", "cut_passes", "dealt", "largest_whole_batch"]


@dataclass(frozen=True)
class Pass:
    """Slides computed at once: their ``share`` of the batch's slides, and whether the batch ends with them.

    The sum of share x mean loss over a batch's passes is the mean loss over its slides: accumulation is exact, in one
    process or several. A pass of share 0 computes nothing: all processes of a batch take as many passes.
    """

    slides: tuple[int, ...]
    share: float
    ends_batch: bool


def cut_passes(slides: Sequence[int], sizes: Sequence[int], max_tokens: int) -> list[tuple[int, ...]]:
    """Cut a run of slides, in order, into passes of at most ``max_tokens`` patches; a larger slide goes alone.

    ``sizes`` holds the patches of every slide, ``slides`` indexes it.
    """
    passes: list[list[int]] = []
    filled = 0
    for slide in slides:
        if not passes or filled + sizes[slide] > max_tokens:
            passes.append([])
            filled = 0
        passes[-1].append(slide)
        filled += sizes[slide]
    return [tuple(part) for part in passes]


def dealt(slides: Sequence[int], sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Deal slides out so that the parts have about as many patches: the largest first, each to the least part.

    Within a part slides keep their order.
    """
    held, filled = [list[int]() for _ in range(parts)], [0] * parts
    for place in sorted(range(len(slides)), key=lambda place: (-sizes[slides[place]], slides[place])):
        least = filled.index(min(filled))
        held[least].append(place)
        filled[least] += sizes[slides[place]]
    return [[slides[place] for place in sorted(own)] for own in held]


def largest_whole_batch(sizes: Sequence[int], max_tokens: int) -> int:
    """Say how many slides at most fit into one pass whichever they are; one slide always does."""
    largest = accumulate(sorted(sizes, reverse=True))
    return max(1, sum(filled <= max_tokens for filled in largest))


def check_whole_batches(sizes: Sequence[int], batch_size: int, max_tokens: int) -> None:
    """Check that a batch of any slides fits into one pass.  Raises: OptionError if it might not."""
    fits, taken = largest_whole_batch(sizes, max_tokens), min(batch_size, len(sizes))
    if taken > fits:
        largest = sum(sorted(sizes, reverse=True)[:taken])
        raise OptionError(
            f"got batches of {taken} slides, which may have {largest} patches, and max_tokens={max_tokens}; expected "
            "batches that fit into one pass, as this model's slides depend on each other in training; raise max_tokens "
            f"to {largest} or lower the batch size to {fits}"
        )


class PassSampler(Sampler[Pass]):
    """Passes over slides: shuffled anew each epoch under one seed, ``batch_size`` slides an optimiser step.

    ``slides`` are indices into ``sizes``, the patches of every slide. Without a seed they come in the order given.
    With ``weights``, one a slide, and a seed an epoch's slides are drawn by them, with replacement, as many as there
    are. The last batch of an epoch may be smaller. ``whole_batches`` is for models whose gradient of a batch is no mean
    over its slides: no batch may take more than one pass. ``part`` (i, n) gives the i-th of n processes its part of
    every batch.
    Raises: OptionError if a size is not positive, or whole batches might not fit into a pass.
    """

    def __init__(
        self,
        slides: Sequence[int],
        sizes: Sequence[int],
        *,
        batch_size: int,
        max_tokens: int,
        seed: int | None = None,
        weights: Sequence[float] | None = None,
        whole_batches: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1 or max_tokens < 1:
            raise OptionError(f"got batch_size={batch_size} and max_tokens={max_tokens}; expected numbers from 1 on")
        if whole_batches:
            own = [sizes[slide] for slide in slides]
            check_whole_batches(own if weights is None else [max(own)] * len(own), batch_size, max_tokens)
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        self._slides, self._sizes = list(slides), list(sizes)
        self._batch_size, self._max_tokens, self._part = batch_size, max_tokens, part
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    @property
    def steps_per_epoch(self) -> int:
        """How many optimiser steps an epoch takes."""
        return -(-len(self._slides) // self._batch_size)

    def __iter__(self) -> Iterator[Pass]:
        order = [self._slides[number] for number in self._numbers()]
        for first in range(0, len(order), self._batch_size):
            batch = order[first : first + self._batch_size]
            rank, processes = self._part
            parts = [batch] if processes == 1 else dealt(batch, self._sizes, processes)
            passes = [cut_passes(part, self._sizes, self._max_tokens) for part in parts]
            most = max(map(len, passes))
            for number in range(most):
                slides = passes[rank][number] if number < len(passes[rank]) else ()
                yield Pass(slides or (batch[0],), len(slides) / len(batch), number + 1 == most)

    def _numbers(self) -> list[int]:
        count = len(self._slides)
        if self._weights is not None and self._generator is not None:
            return torch.multinomial(self._weights, count, replacement=True, generator=self._generator).tolist()
        if self._generator is not None:
            return torch.randperm(count, generator=self._generator).tolist()
        return list(range(count))
