"""A torch network as an encoder: resize, normalise, forward."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dtcwsi.errors import EncoderError

__all__ = ["NetworkEncoder", "state_digest"]


class NetworkEncoder:
    """An image network whose forward gives one vector an image; see `dtcwsi.encoders.base.Encoder`.

    The whole patch is resized (antialiased bilinear) to ``input_px``, scaled to 0..1 and normalised. On the CPU the
    network runs with channels last, in batches small enough for the cache.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        input_px: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> None:
        self.name, self.input_px = name, input_px
        self._device = torch.device(device)
        self.digest = state_digest(network, input_px=input_px, mean=mean, std=std)
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)
        self.batch_size = batch_size or (16 if self._device.type == "cpu" else 128)
        self.dim = self.encode(np.zeros((1, input_px, input_px, 3), np.uint8)).shape[1]

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, dim) float32."""
        rows = self._network(self._prepare(torch.from_numpy(pixels)))
        if rows.ndim != 2:
            raise EncoderError(f"encoder {self.name!r} gave shape {tuple(rows.shape)}; expected one vector a patch")
        return np.asarray(rows.float().cpu().numpy(), np.float32)

    def _prepare(self, pixels: Tensor) -> Tensor:
        images = pixels.to(self._device).permute(0, 3, 1, 2).float() / 255
        if images.shape[-2:] != (self.input_px, self.input_px):
            images = nn.functional.interpolate(images, size=(self.input_px,) * 2, mode="bilinear", antialias=True)
        return ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)


def state_digest(network: nn.Module, **preprocessing: object) -> str:
    """Digest every tensor of a network and how its input is prepared; 16 hexadecimal digits."""
    seen = hashlib.blake2b(repr(sorted(preprocessing.items())).encode(), digest_size=8)
    for name, tensor in sorted(network.state_dict().items()):
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()
