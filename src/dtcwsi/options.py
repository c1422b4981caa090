"""The options of a model's parts: the keyword-only parameters of their constructors."""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from dtcwsi.errors import OptionError
from dtcwsi.registry import near

__all__ = [
    "check_heads",
    "check_number",
    "check_options",
    "check_share",
    "check_switch",
    "check_whole_number",
    "one_of",
    "options_of",
    "plain",
]

_FEW = 12  # names that a sentence can hold


def options_of(part: type) -> dict[str, Any]:
    """List a part's options and their defaults, without those that it has ``fixed``."""
    parameters = inspect.signature(part).parameters.values()
    fixed = getattr(part, "fixed", {})
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in fixed}


def check_options(owner: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse options that nothing would read.

    Raises: OptionError naming the near ones.
    """
    for name in options:
        if name not in known:
            advice = f"near options: {near(name, known)}" if known else "it takes none"
            raise OptionError(f"{owner} takes no option {name!r}; {advice}")


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as Python has them, which a card can hold: numbers of numpy become Python's, tuples lists."""
    return {name: _plain(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    return value


def check_whole_number(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Give back a whole number within the bounds.  Raises: OptionError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise OptionError(f"got {name}={value!r}; expected a whole number {bounds}")
    return value


def check_number(name: str, value: Any, fits: Callable[[float], bool], expected: str) -> float:
    """Give back a finite number that ``fits``.  Raises: OptionError saying what was ``expected``."""
    largest = sys.float_info.max
    if isinstance(value, bool) or not isinstance(value, int | float) or not -largest <= value <= largest:
        raise OptionError(f"got {name}={value!r}; expected {expected}")
    if not fits(value):
        raise OptionError(f"got {name}={value!r}; expected {expected}")
    return float(value)


def check_share(name: str, value: Any) -> float:
    """Give back a share from 0 to below 1, such as a dropout.  Raises: OptionError if it is none."""
    return check_number(name, value, lambda share: 0 <= share < 1, "a share from 0 to below 1")


def check_heads(width: int, **heads: int) -> None:
    """Check that each number of attention heads divides the width.  Raises: OptionError naming one that does not."""
    check_whole_number("width", width)
    for name, count in heads.items():
        if width % check_whole_number(name, count):
            raise OptionError(f"got width={width} and {name}={count}; expected heads that divide the width")


def check_switch(name: str, value: Any) -> bool:
    """Give back True or False.  Raises: OptionError if it is neither."""
    if not isinstance(value, bool):
        raise OptionError(f"got {name}={value!r}; expected true or false")
    return value


def one_of(name: str, value: object, known: Collection[str]) -> str:
    """Give back a known name.  Raises: OptionError naming all where they are at most twelve, else the near ones."""
    if not isinstance(value, str) or value not in known:
        named = ", ".join(sorted(known)) if len(known) <= _FEW else near(str(value), known)
        raise OptionError(f"got {name}={value!r}; expected one of: {named}")
    return value
