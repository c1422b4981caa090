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

    The whole patch is resized (antialiased bilinear, in 8 bits on the CPU, so that every device sees the same pixels)
    to ``input_px``, scaled to 0..1 and normalised. On the CPU the network runs with channels last, in batches small
    enough for the cache.
    Raises: EncoderError if the device is not there or the network gives no vectors.
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
        self._device = _device(device)
        self.digest = state_digest(network, input_px=input_px, mean=mean, std=std, resize="bilinear-8bit")
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)
        self.batch_size = batch_size or (8 if self._device.type == "cpu" else 128)
        self.dim = self.encode(np.zeros((1, input_px, input_px, 3), np.uint8)).shape[1]

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, dim) float32."""
        rows = self._network(self._prepare(torch.from_numpy(pixels)))
        if rows.ndim != 2:
            raise EncoderError(f"encoder {self.name!r} gave shape {tuple(rows.shape)}; expected one vector a patch")
        return np.asarray(rows.float().cpu().numpy(), np.float32)

    def _prepare(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2)
        if images.shape[-2:] != (self.input_px, self.input_px):
            images = nn.functional.interpolate(images, size=(self.input_px,) * 2, mode="bilinear", antialias=True)
        scaled = images.to(self._device).float() / 255
        return ((scaled - self._mean) / self._std).contiguous(memory_format=torch.channels_last)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        what = str(error).partition("\n")[0]
        raise EncoderError(
            f"the device {name!r} cannot be used ({what}); choose another --device, cpu is always there"
        ) from error
    return device


def state_digest(network: nn.Module, **preprocessing: object) -> str:
    """Digest every tensor of a network and how its input is prepared; 16 hexadecimal digits."""
    seen = hashlib.blake2b(repr(sorted(preprocessing.items())).encode(), digest_size=8)
    for name, tensor in sorted(network.state_dict().items()):
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()
