"""What is known of a published implementation's state dict."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from os.path import commonprefix
from typing import Any

from torch import Tensor

__all__ = ["Published", "State", "count_of", "sizes_of"]

State = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """How one implementation names things.

    ``title`` is what people call it; ``telltale`` matches a key that it alone has; ``names`` turn its keys into ours,
    the first match decides; keys that match ``ignored`` are left out; ``options`` reads sizes off our keys by
    `sizes_of` and `count_of`; ``added`` makes what our model has and theirs keeps elsewhere. Where a key matches the
    first of ``together``, all the others must be there; one that matches the first of ``foreign`` belongs to what the
    second says, which has no counterpart here; ``whole`` says what is expected where a key is missing.
    """

    title: str
    telltale: str
    names: tuple[tuple[str, str], ...]
    options: Callable[[State], dict[str, Any]]
    ignored: str = r"$^"
    added: Callable[[State], State] = lambda state: {}  # noqa: E731
    together: tuple[tuple[str, tuple[str, ...]], ...] = ()
    foreign: tuple[tuple[str, str], ...] = ()
    whole: str = "the whole of a trained model"

    def owns(self, state: State) -> bool:
        """Say whether the keys look like this implementation's."""
        return any(re.fullmatch(self.telltale, key) for key in state)

    def kept(self, state: State) -> State:
        """Leave out what is ignored."""
        return {key: tensor for key, tensor in state.items() if not re.fullmatch(self.ignored, key)}

    def known(self, state: State) -> int:
        """Count the keys that are this implementation's, those left out aside."""
        return sum(self.renamed(key) is not None for key in self.kept(state))

    def lacking(self, state: State) -> set[str]:
        """Tell the keys that others call for and that are not there."""
        found = [(re.fullmatch(pattern, key), others) for key in state for pattern, others in self.together]
        return {match.expand(other) for match, others in found if match for other in others} - set(state)

    def foreign_in(self, state: State) -> str | None:
        """Say what the keys are of that has no counterpart here, None if they are of no such thing."""
        return next((what for pattern, what in self.foreign if any(re.fullmatch(pattern, key) for key in state)), None)

    def published_name(self, key: str, given: Iterable[str]) -> str:
        """Give their name of a key of ours, written as the ``given`` keys are; ours if they have none."""
        there = list(given)

        def likeness(name: str) -> int:
            return max((len(commonprefix((name, other))) for other in there), default=0)

        names = [name for pattern, ours in self.names for name in _reversed(pattern, ours, key)]
        return max((name for name in names if self.renamed(name) == key), key=likeness, default=key)

    def renamed(self, key: str) -> str | None:
        """Give our name of a key, None if it has none."""
        for pattern, ours in self.names:
            found = re.fullmatch(pattern, key)
            if found:
                return f"aggregator.{found.expand(ours)}"
        return None


def sizes_of(state: State, key: str, dims: int = 2) -> tuple[int, ...]:
    """Read the shape of a weight.  Raises, with the key: KeyError if it is missing, ValueError if it has other dims."""
    if state[key].ndim != dims:
        raise ValueError(key)
    return tuple(state[key].shape)


def count_of(state: State, pattern: str, first: str) -> int:
    """Count numbered parts by the highest number of a key that begins so: a part some of whose keys are missing counts.

    Raises: KeyError with the key ``first`` if there is none.
    """
    numbers = [int(found[1]) for key in state if (found := re.match(pattern, key))]
    if not numbers:
        raise KeyError(first)
    return min(max(numbers) + 1, len(state))


def _reversed(pattern: str, ours: str, key: str) -> Iterator[str]:
    """Write the keys that a pattern may have turned into ours."""
    parts = re.split(r"\\\d", ours)
    found = re.fullmatch("aggregator[.]" + "(.+)".join(map(re.escape, parts)), key)
    if not found:
        return
    pieces = re.split(r"(\[[^]]*\]|\(\?:[^()]*\)\?)", pattern)
    ways = [
        list(piece[1:-1]) if piece.startswith("[") else ["", piece[3:-2]] if piece.startswith("(?:") else [piece]
        for piece in pieces
    ]
    for choice in product(*ways):
        theirs = "".join(choice)
        groups = re.findall(r"\([^()]*\)", theirs)
        if len(groups) == len(parts) - 1:
            for group, value in zip(groups, found.groups(), strict=True):
                theirs = theirs.replace(group, value, 1)
            yield theirs.replace("\\.", ".")
