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

    def known(self, state: State) -> int:
        """Count the keys that are this implementation's, those left out aside."""
        return sum(self.renamed(key) is not None and not re.fullmatch(self.ignored, key) for key in state)

    def published_name(self, key: str) -> str:
        """Give their name of a key of ours, or ours if they have none."""
        for pattern, ours in self.names:
            groups = re.findall(r"\((?!\?)[^()]*\)", pattern)
            parts = re.split(r"\\\d", ours)
            found = re.fullmatch("aggregator[.]" + "(.+)".join(map(re.escape, parts)), key)
            if found and len(groups) == len(parts) - 1:
                theirs = re.sub(r"\(\?:[^()]*\)\?", "", pattern)
                for group, value in zip(groups, found.groups(), strict=True):
                    theirs = theirs.replace(group, value, 1)
                theirs = re.sub(r"\[(.)[^]]*\]", r"\1", theirs).replace("\\.", ".")
                if self.renamed(theirs) == key:
                    return theirs
        return key

    def renamed(self, key: str) -> str | None:
        """Give our name of a key, None if it has none."""
        for pattern, ours in self.names:
            found = re.fullmatch(pattern, key)
            if found:
                return f"aggregator.{found.expand(ours)}"
        return None
