"""What is known of a published implementation's state dict."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Published", "State"]

State = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """How one implementation names things.

    ``title`` is what people call it; ``telltale`` matches a key that it alone has; ``names`` turn its keys into ours,
    the first match decides; keys that match ``ignored`` are left out; ``options`` reads sizes off our keys;
    ``added`` makes what our model has and theirs keeps elsewhere.
    """

    title: str
    telltale: str
    names: tuple[tuple[str, str], ...]
    options: Callable[[State], dict[str, Any]]
    ignored: str = r"$^"
    added: Callable[[State], State] = lambda state: {}  # noqa: E731

    def owns(self, state: State) -> bool:
        """Say whether the keys look like this implementation's."""
        return any(re.fullmatch(self.telltale, key) for key in state)

    def renamed(self, key: str) -> str | None:
        """Give our name of a key, None if it has none."""
        for pattern, ours in self.names:
            found = re.fullmatch(pattern, key)
            if found:
                return f"aggregator.{found.expand(ours)}"
        return None
