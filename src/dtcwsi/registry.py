"""Names to things, without importing the things."""

import difflib
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from dtcwsi.errors import UnknownNameError

_FEW, _MOST_NAMED = 3, 12

__all__ = ["Registry", "near"]


def near(name: str, known: Iterable[str]) -> str:
    """Name the known names if they are few, else the likeliest, or the first of them if none is like it."""
    known = sorted(known)
    if len(known) <= _FEW:
        return ", ".join(known)
    folded = {one.lower(): one for one in known}
    wanted = name.lower().replace("_", "-") if any("-" in one for one in known) else name.lower()
    close = [folded[one] for one in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.5)] or known[:_MOST_NAMED]
    return ", ".join(close) + (" ..." if len(close) == _MOST_NAMED < len(known) else "")


class Registry:
    """A table of names, each with a lazy ``module:attribute`` target.

    Listing names imports nothing. Third parties add names through the entry point group ``dtcwsi.<kind>s``.
    """

    def __init__(self, kind: str, targets: dict[str, str]) -> None:
        self.kind = kind
        self._targets = dict(targets)

    def names(self) -> list[str]:
        """All names, sorted, those of installed third parties included."""
        return sorted({*self._targets, *self._third_party()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._third_party()

    def get(self, name: str) -> Any:
        """Import and return what a name stands for.

        Raises: UnknownNameError if nothing is registered under the name.
        """
        if not isinstance(name, str):
            raise UnknownNameError(f"got {type(name).__name__} as the name of a {self.kind}; expected a string")
        if name in self._targets:
            module, _, attribute = self._targets[name].partition(":")
            return getattr(import_module(module), attribute)
        found = self._third_party()
        if name in found:
            return found[name].load()
        raise UnknownNameError(f"no {self.kind} is called {name!r}; near names: {near(name, self.names())}")

    def _third_party(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=f"dtcwsi.{self.kind}s")}
