"""What reading processes do to each batch: every patch to the target's stain, or left as it is and counted."""

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dtcwsi.stain.tally import Tally
from dtcwsi.store.digest import digest

__all__ = ["StainMethod", "StainNormaliser"]


class StainMethod(Protocol):
    """A published way to normalise a patch, fitted to a target."""

    @property
    def name(self) -> str:
        """What the method is called on the command line."""
        ...

    def target(self) -> dict[str, Any]:
        """The numbers that say what patches are normalised to."""
        ...

    def one(self, patch: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Normalise a patch (height, width, 3); None if its own stain cannot be told."""
        ...


@dataclass(frozen=True)
class StainNormaliser:
    """A method, to be called on batches of patches; it can be sent to other processes."""

    method: StainMethod
    tally: Tally = field(default_factory=Tally)

    @property
    def name(self) -> str:
        """The method's name, and which target it was fitted to unless these are the published constants."""
        if self.method == type(self.method)():
            return self.method.name
        return f"{self.method.name}-{digest(facts=self.facts)[:8]}"

    @property
    def facts(self) -> str:
        """JSON that says what patches become, and from which `stain_as_recorded` makes the same again."""
        return json.dumps({"method": self.method.name, "target": self.method.target(), "version": 1}, sort_keys=True)

    @property
    def left(self) -> int:
        """How many patches were left as they are so far, in all processes."""
        return self.tally.count

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take (N, height, width, 3) RGB.  Returns: the same shape."""
        made = [self.method.one(patch) for patch in pixels]
        self.tally.add(sum(patch is None for patch in made))
        return np.stack([old if new is None else new for old, new in zip(pixels, made, strict=True)])
