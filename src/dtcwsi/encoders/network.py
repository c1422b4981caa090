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

    The whole patch is resized (antialiased, ``bilinear`` or ``bicubic``, in 8 bits on the CPU, so that every device
    sees the same pixels) to ``resize_px``, else ``input_px``; its middle of ``input_px`` is scaled to 0..1 and
    normalised. On the CPU the network runs in float32 with channels last, in batches small enough for the cache; on a
    GPU under autocast to ``precision``, if that is not float32. ``spacing_um`` are the um/px that it was trained at,
    empty if it knows none. ``dim`` and ``digest`` are found out where they are not given: by encoding a black patch,
    from the tensors.
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
        resize: str = "bilinear",
        resize_px: int | None = None,
        precision: str = "float32",
        spacing_um: tuple[float, ...] = (),
        dim: int | None = None,
        digest: str | None = None,
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> None:
        self.name, self.input_px, self.spacing_um = name, input_px, spacing_um
        self._device = _device(device)
        self._resize, self._resize_px = resize, resize_px or input_px
        self._precision = getattr(torch, precision)
        preparation = {"input_px": input_px, "mean": mean, "std": std, "resize": f"{resize}-8bit"}
        if self._resize_px != input_px:
            preparation["resize_px"] = resize_px
        self.digest = state_digest(network, **preparation) if digest is None else _content_digest(digest, **preparation)
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)
        self.batch_size = batch_size or (8 if self._device.type == "cpu" else 128)
        self.dim = dim or self.encode(np.zeros((1, input_px, input_px, 3), np.uint8)).shape[1]

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, dim) float32."""
        lower = self._device.type == "cuda" and self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=lower):
            rows = self._network(self._prepare(torch.from_numpy(pixels)))
        if not isinstance(rows, Tensor):
            raise EncoderError(
                f"encoder {self.name!r} gave {type(rows).__name__}; expected one tensor, a vector a patch"
            )
        if rows.ndim != 2:
            raise EncoderError(f"encoder {self.name!r} gave shape {tuple(rows.shape)}; expected one vector a patch")
        return np.asarray(rows.float().cpu().numpy(), np.float32)

    def _prepare(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2)
        if images.shape[-2:] != (self._resize_px, self._resize_px):
            images = nn.functional.interpolate(images, size=(self._resize_px,) * 2, mode=self._resize, antialias=True)
        margin = (self._resize_px - self.input_px) // 2
        images = images[..., margin : margin + self.input_px, margin : margin + self.input_px]
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


def _content_digest(content: str, **preprocessing: object) -> str:
    """Digest a network that is known by the digest of its content, and how its input is prepared."""
    seen = _begun(preprocessing)
    seen.update(content.encode())
    return seen.hexdigest()


def state_digest(network: nn.Module, **preprocessing: object) -> str:
    """Digest every tensor of a network and how its input is prepared; 16 hexadecimal digits."""
    seen = _begun(preprocessing)
    for name, tensor in sorted(network.state_dict().items()):
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()


def _begun(preprocessing: dict[str, object]) -> "hashlib.blake2b":
    return hashlib.blake2b(repr(sorted(preprocessing.items())).encode(), digest_size=8)
