"""The options of a model's parts: the keyword-only parameters of their constructors."""

import inspect
from collections.abc import Mapping
from typing import Any

from dtcwsi.errors import OptionError
from dtcwsi.registry import near

__all__ = ["check_options", "options_of"]


def options_of(part: type) -> dict[str, Any]:
    """List a part's options and their defaults."""
    parameters = inspect.signature(part).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(owner: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse options that nothing would read.

    Raises: OptionError naming the near ones.
    """
    for name in options:
        if name not in known:
            advice = f"near options: {near(name, known)}" if known else "it takes none"
            raise OptionError(f"{owner} takes no option {name!r}; {advice}")
