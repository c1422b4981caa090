"""An ONNX file as a network, run by ONNX Runtime."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtcwsi.errors import EncoderError

__all__ = ["OnnxNetwork"]

_BESIDE_READERS = {"intra_op.allow_spinning": "0", "dynamic_block_base": "4"}
"""Threads that wait leave their core to the processes that read, and the others' work is cut finer meanwhile."""


class OnnxNetwork(nn.Module):
    """An ONNX file's first input and first output, in batches of the file's own size if that is fixed.

    ``input_px`` is the side of its images, None if that is free. As many threads as torch has.
    Raises: EncoderError if ONNX Runtime is missing or cannot read the file.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise EncoderError(
                f'{path} needs onnxruntime, which is not installed: pip install "dtcwsi[onnx]"'
            ) from error
        wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
        there = [name for name in wanted if name in onnxruntime.get_available_providers()]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        for name, value in _BESIDE_READERS.items():
            options.add_session_config_entry(f"session.{name}", value)
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=[*there, "CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - the runtime's errors share no base
            what = str(error).partition("\n")[0]
            raise EncoderError(f"{path} cannot be read ({what}); expected an ONNX file") from error
        self._session: Any = session
        self._input, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
        self._size = shape[0] if isinstance(shape[0], int) else None
        self.input_px = shape[-1] if isinstance(shape[-1], int) else None

    def forward(self, images: Tensor) -> Tensor:
        """Embed each image."""
        batch = images.float().cpu().contiguous()
        if self._size is None:
            return self._run(batch)
        chunks = [batch[start : start + self._size] for start in range(0, len(batch), self._size)]
        return torch.cat([self._run(_filled_up(chunk, self._size))[: len(chunk)] for chunk in chunks])

    def _run(self, batch: Tensor) -> Tensor:
        (rows, *_) = self._session.run(None, {self._input: batch.numpy()})
        return torch.from_numpy(rows)


def _filled_up(images: Tensor, size: int) -> Tensor:
    return torch.cat([images, images.new_zeros(size - len(images), *images.shape[1:])])
