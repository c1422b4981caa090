"""What every encoder offers."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder"]


class Encoder(Protocol):
    """Pixels to embeddings.

    ``name`` is the folder its features go to; ``digest`` changes when the weights or the preprocessing do;
    ``batch_size`` patches a call suit it. It may have ``spacing_um``, the um/px that it was trained at, which
    `dtcwsi.encoders.spacing` reads; and ``prepare``, which the processes that read patches do to each batch, with
    ``encode_prepared``, see `dtcwsi.encoders.network.NetworkEncoder`; and ``stain`` with ``stain_left``, see
    `dtcwsi.encoders.stained.StainedEncoder`.
    """

    name: str
    dim: int
    digest: str
    batch_size: int

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, dim) float32."""
        ...
