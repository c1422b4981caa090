"""An encoder that sees patches in the stain of a reference."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dtcwsi.encoders.base import Encoder
from dtcwsi.store.digest import digest

__all__ = ["StainedEncoder"]

_Prepare = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class _Stain(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> str: ...

    @property
    def left(self) -> int: ...

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class _Both:
    first: _Prepare
    then: _Prepare | None

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        made = self.first(pixels)
        return made if self.then is None else self.then(made)


class StainedEncoder:
    """An encoder whose patches a stain normaliser changes first, in the processes that read them.

    Its name and digest are others than the encoder's, so that features of the two go to two folders and never mix.
    """

    def __init__(self, encoder: Encoder, stain: _Stain) -> None:
        self._encoder, self._stain = encoder, stain
        self.name = f"{encoder.name}+{stain.name}"
        self.dim = encoder.dim
        self.digest = digest(encoder.digest, stain=stain.facts)
        self.spacing_um: tuple[float, ...] = getattr(encoder, "spacing_um", ())
        self.input_px: int = getattr(encoder, "input_px", 0)
        self.prepare = _Both(stain, getattr(encoder, "prepare", None))

    @property
    def batch_size(self) -> int:
        """Patches a call, as suit the encoder."""
        return self._encoder.batch_size

    @batch_size.setter
    def batch_size(self, patches: int) -> None:
        self._encoder.batch_size = patches

    @property
    def stain(self) -> str:
        """What features files say of the stain."""
        return self._stain.facts

    @property
    def stain_left(self) -> int:
        """How many patches were left in their own stain so far."""
        return self._stain.left

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, dim) float32."""
        return self._encoder.encode(self._stain(pixels))

    def encode_prepared(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Embed batch after batch of what ``prepare`` made.  Yields: (N, dim) float32."""
        together: Any = getattr(self._encoder, "encode_prepared", None)
        yield from map(self._encoder.encode, batches) if together is None else together(batches)
