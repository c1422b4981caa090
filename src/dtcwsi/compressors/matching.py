"""Which tokens could merge: Section 2.4.1.

Tokens of a bag are dealt alternately into A (places 0, 2, ...) and B (places 1, 3, ...). An edge merges its ``source``
into its ``target``; a token is source of one edge at most and never both source and target, so any set of edges can
merge at once. With `window` and `full` several sources may take one target; a token without a partner stays single.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.nn.exact import wide_dtype
from dtcwsi.nn.linear import linear
from dtcwsi.nn.segment import Segments

__all__ = ["MATCHINGS", "Edges", "Likeness", "Matching", "aligned", "every_other", "full", "matching_of", "window"]

MATCHINGS = ("aligned", "window", "full")

_BLOCK_ROWS, _BLOCK_COLUMNS = 512, 2048

Count = Callable[[NDArray[np.int64]], NDArray[np.int64]]


@dataclass(frozen=True)
class Edges:
    """Candidate merges: tokens ``source`` and ``target`` (edges,), bag after bag, and their ``utility``."""

    source: Int[Tensor, "edges"]
    target: Int[Tensor, "edges"]
    utility: Float[Tensor, "edges"]


@dataclass(frozen=True)
class Likeness:
    """What utility is made of: lam cos(h_i, h_j) - (1 - lam) |worth_i - worth_j|.

    ``rows`` gathers the vectors of some tokens, ``dots`` multiplies those of pairs in an order that no batch changes;
    ``length`` and ``worth`` are of all tokens.
    A vector of length 0 is like nothing.  Source: Section 2.4.1, with sigmoid(s) as worth unless told otherwise.
    """

    rows: Callable[[Tensor], Tensor]
    dots: Callable[[Tensor, Tensor], Tensor]
    length: Float[Tensor, "tokens"]
    worth: Float[Tensor, "tokens"]
    lam: float
    wide: torch.dtype

    def of_pairs(self, one: Int[Tensor, "pairs"], other: Int[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """Weigh pairs, one by one."""
        lengths, worths = ([of.index_select(0, at) for at in (one, other)] for of in (self.length, self.worth))
        return self._utility(self.dots(one, other), *lengths, *worths)

    def of_block(self, one: Int[Tensor, "rows"], other: Int[Tensor, "columns"]) -> Float[Tensor, "rows columns"]:
        """Weigh every one against every other, products in ``wide`` precision."""
        with torch.autocast(self.length.device.type, enabled=False):
            dots = linear(self.rows(one).to(self.wide), self.rows(other).to(self.wide))
        lengths, worths = (
            [of.index_select(0, one)[:, None], of.index_select(0, other)] for of in (self.length, self.worth)
        )
        utility = self._utility(dots, *lengths, *worths)
        return _rounded(utility)  # products of other blocks differ in their last bits

    def _utility(
        self, dots: Tensor, length: Tensor, other_length: Tensor, worth: Tensor, other_worth: Tensor
    ) -> Tensor:
        cosine = dots / (length * other_length).clamp_min(1e-30)
        return self.lam * cosine - (1 - self.lam) * (worth - other_worth).abs()


@dataclass(frozen=True)
class Matching:
    """A way to match: ``count`` says how many edges lists of some sizes have, ``edges`` finds them.

    ``distinct`` promises that no two edges share a target.
    """

    name: str
    count: Count
    edges: Callable[[Segments, Segments, Likeness], Edges]
    distinct: bool = False


def aligned(tokens: Segments, edges: Segments, likeness: Likeness) -> Edges:
    """Pair the tokens 1 and 2, 3 and 4, ... of each bag; an odd last one stays single.

    Source: Algorithm 1, step 2.
    """
    target = every_other(tokens, edges)
    return Edges(target + 1, target, likeness.of_pairs(target, target + 1))


def window(tokens: Segments, edges: Segments, likeness: Likeness, *, width: int) -> Edges:
    """Let each A look at its ``width`` nearest B in the order and take the best; ties go to the nearer, then earlier.

    ``width`` 2 looks at both neighbours.
    """
    source = every_other(tokens, edges)
    first, last = tokens.offsets[edges.ids], tokens.offsets[edges.ids + 1]
    best, target = torch.full(source.shape, -torch.inf, dtype=torch.float64, device=source.device), source
    for step in range(min(width, 2 * int(tokens.offsets.diff().amax()))):
        other = source + (step + 1 if step % 2 == 0 else -step)
        inside = (other >= first) & (other < last)
        utility = _rounded(likeness.of_pairs(source, torch.where(inside, other, source)))
        better = inside & (utility > best)
        best, target = torch.where(better, utility, best), torch.where(better, other, target)
    return Edges(source, target, best)


def full(tokens: Segments, edges: Segments, likeness: Likeness) -> Edges:
    """Let each A take the best B of its bag; ties go to the earlier.

    Utilities exist for blocks of 512 x 2,048 at once, never for all pairs; blocks reach over the bags of their rows.
    Source: bipartite soft matching of ToMe (Bolya et al. 2023).
    """
    source = every_other(tokens, edges)
    best = torch.full(source.shape, -torch.inf, dtype=torch.float64, device=source.device)
    target = source.clone()
    ends = tokens.offsets.tolist()
    for start in range(0, len(source), _BLOCK_ROWS):
        rows = slice(start, min(len(source), start + _BLOCK_ROWS))
        first, last = int(edges.ids[rows.start]), int(edges.ids[rows.stop - 1])
        for column in range(ends[first], ends[last + 1], 2 * _BLOCK_COLUMNS):
            near = torch.arange(column, min(ends[last + 1], column + 2 * _BLOCK_COLUMNS), device=source.device)
            others = near[(near - tokens.offsets[tokens.ids[near]]) % 2 == 1]
            if len(others):
                _look(likeness, tokens.ids, source[rows], others, best[rows], target[rows])
    return Edges(source, target, best)


def _look(
    likeness: Likeness,
    ids: Int[Tensor, "tokens"],
    source: Int[Tensor, "rows"],
    others: Int[Tensor, "columns"],
    best: Float[Tensor, "rows"],
    target: Int[Tensor, "rows"],
) -> None:
    """Write the others that are better than the best so far into ``best`` and ``target``."""
    utility = likeness.of_block(source, others).masked_fill_(ids[source][:, None] != ids[others], -torch.inf)
    value, column = utility.max(dim=1)
    better = value > best
    best.copy_(torch.where(better, value, best))
    target.copy_(torch.where(better, others[column], target))


def _rounded(utility: Tensor) -> Tensor:
    """Make equal what differs by float error alone."""
    return torch.round(utility.to(wide_dtype(utility)) * 1e7) / 1e7


def every_other(tokens: Segments, edges: Segments) -> Int[Tensor, "edges"]:
    """Name the first, third, ... token of each bag, as many as it has ``edges``."""
    return tokens.firsts(edges.ids) + 2 * edges.places


def matching_of(name: str, width: int = 2) -> Matching:
    """Choose a matching by name; ``width`` is that of `window`."""
    return {
        "aligned": Matching(name, _pairs, aligned, distinct=True),
        "window": Matching(name, _every_a, partial(window, width=width)),
        "full": Matching(name, _every_a, full),
    }[name]


def _pairs(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return sizes // 2


def _every_a(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(sizes > 1, (sizes + 1) // 2, 0)
