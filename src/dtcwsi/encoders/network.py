"""A torch network as an encoder: resize, normalise, forward."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dtcwsi.encoders.backends import on_backend
from dtcwsi.encoders.preparation import Resize
from dtcwsi.errors import EncoderError

__all__ = ["NetworkEncoder", "state_digest"]

_ALIKE = 1e-4  # share of the largest number
_UNDER_WAY = 2  # batches a GPU is asked for before the first is waited for


class NetworkEncoder:
    """An image network whose forward gives one vector an image; see `dtcwsi.encoders.base.Encoder`.

    The whole patch is resized to ``resize_px``, else ``input_px``, as `Resize` does it; its middle of ``input_px`` is
    scaled to 0..1 and normalised. On the CPU the network runs in float32 with channels last, in batches small enough
    for the cache; on a GPU under autocast to ``precision``, if that is not float32, and where a batch is too large for
    its memory ``batch_size`` is halved for good. ``spacing_um`` are the um/px that it was trained at,
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
        self.prepare = Resize(resize_px or input_px, input_px, resize)
        self._precision = getattr(torch, precision)
        preparation = {"input_px": input_px, "mean": mean, "std": std, "resize": f"{resize}-8bit"}
        if self.prepare.px != input_px:
            preparation["resize_px"] = resize_px
        self.digest = state_digest(network, **preparation) if digest is None else _content_digest(digest, **preparation)
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)
        self.batch_size = batch_size or (8 if self._device.type == "cpu" else 128)
        self.dim = dim or self.encode(np.zeros((1, input_px, input_px, 3), np.uint8)).shape[1]

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, height, width, 3) RGB patches.  Returns: (N, dim) float32."""
        return self._rows(self.prepare(pixels))

    def encode_prepared(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Embed batch after batch of what ``prepare`` made; a GPU computes one while the next is read and sent.

        Yields: (N, dim) float32, in the order of the batches.
        """
        if self._device.type != "cuda":
            yield from map(self._rows, batches)
            return
        under_way: deque[_UnderWay] = deque()
        for pixels in batches:
            under_way.append(self._begun(pixels))
            if len(under_way) == _UNDER_WAY:
                yield self._ended(under_way.popleft())
        while under_way:
            yield self._ended(under_way.popleft())

    def _rows(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return np.asarray(self._forward(torch.from_numpy(pixels)).cpu().numpy(), np.float32)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        torch.cuda.empty_cache()
        half = -(-len(pixels) // 2)
        self.batch_size = min(self.batch_size, half)
        return np.concatenate([self._rows(part) for part in (pixels[:half], pixels[half:])])

    def _begun(self, pixels: NDArray[np.uint8]) -> "_UnderWay":
        """Ask the GPU for a batch without waiting for it; both of its copies go by pinned memory."""
        try:
            sent = torch.from_numpy(np.ascontiguousarray(pixels)).pin_memory()
            rows = self._forward(sent)
            back = torch.empty(rows.shape, dtype=torch.float32, pin_memory=True).copy_(rows, non_blocking=True)
        except torch.OutOfMemoryError:
            return _UnderWay(pixels, None, None)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return _UnderWay(pixels, back, done)

    def _ended(self, batch: "_UnderWay") -> NDArray[np.float32]:
        if batch.done is None or batch.rows is None:
            return self._rows(batch.pixels)
        batch.done.synchronize()
        return np.asarray(batch.rows.numpy(), np.float32)

    def run_on(self, backend: str) -> "NetworkEncoder":
        """Let another of `BACKENDS` run the network; it must give the same rows.

        Returns: this encoder.  Raises: EncoderError if it cannot, or gives others.
        """
        side = self.input_px
        tried = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
        usual = self._rows(tried)
        self._network = on_backend(self._network, backend, side, self._device.type)
        made = np.concatenate([self._rows(tried[:1]), self._rows(tried[1:])])
        if not np.allclose(made, usual, rtol=0, atol=_ALIKE * max(1e-30, float(np.abs(usual).max()))):
            raise EncoderError(f"the back end {backend} gives {self.name!r} other features than torch does; use eager")
        return self

    @torch.inference_mode()
    def _forward(self, pixels: Tensor) -> Tensor:
        lower = self._device.type == "cuda" and self._precision != torch.float32
        images = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        images = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, self._precision, enabled=lower):
            rows = self._network(images)
        if not isinstance(rows, Tensor):
            raise EncoderError(
                f"encoder {self.name!r} gave {type(rows).__name__}; expected one tensor, a vector a patch"
            )
        if rows.ndim != 2:
            raise EncoderError(
                f"encoder {self.name!r} gave shape {tuple(rows.shape)}; expected one vector a patch, (N, width): let "
                "the network pool what it makes"
            )
        return rows.float()


@dataclass(frozen=True)
class _UnderWay:
    """A batch that a GPU was asked for: where its ``rows`` will be once it is ``done``; None if it was too large."""

    pixels: NDArray[np.uint8]
    rows: Tensor | None
    done: "torch.cuda.Event | None"


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
