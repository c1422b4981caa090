"""Ways to run one and the same network: torch as it is, torch compiled, or a runtime made for CPUs."""

import logging
import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from dtcwsi.encoders.onnx_network import OnnxNetwork
from dtcwsi.errors import EncoderError

__all__ = ["BACKENDS", "on_backend"]

BACKENDS = ("eager", "compile", "onnxruntime", "openvino")
"""Rows of all of them agree within 1e-4 of the largest number in a row."""

_NEEDS = {"onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino",)}
_EXTRA = {"onnxruntime": "onnx", "openvino": "openvino"}
_MOST_AT_ONCE = 4096
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def on_backend(network: nn.Module, backend: str, input_px: int, device: str) -> nn.Module:
    """Give the network on a back end; what it was converted from may be let go.

    Raises: EncoderError if packages are missing, the back end is for CPUs alone, or cannot run the network.
    """
    if backend == "eager" or (backend == "onnxruntime" and isinstance(network, OnnxNetwork)):
        return network
    if isinstance(network, OnnxNetwork):
        raise EncoderError(f"an ONNX file is run by onnxruntime and the back end is {backend}; leave the back end out")
    if isinstance(network, torch.jit.ScriptModule) and backend == "onnxruntime":
        raise EncoderError("onnxruntime cannot run a TorchScript file; leave the back end out, or use openvino")
    if backend == "compile":
        compiled: nn.Module = torch.compile(network, dynamic=True)  # type: ignore[assignment]
        return compiled
    if backend not in BACKENDS:
        raise EncoderError(f"got back end {backend!r}; expected one of {', '.join(BACKENDS)}")
    if device != "cpu":
        raise EncoderError(f"the back end {backend} is for a CPU and the device is {device}; use eager or compile")
    missing = [package for package in _NEEDS[backend] if find_spec(package) is None]
    if missing:
        raise EncoderError(
            f"the back end {backend} needs {missing[0]}, which is not installed: "
            f'pip install "dtcwsi[{_EXTRA[backend]}]"'
        )
    try:
        return _onnxruntime(network, input_px) if backend == "onnxruntime" else _OpenVino(network, input_px)
    except EncoderError:
        raise
    except Exception as error:  # noqa: BLE001 - converters raise whatever their parts raise
        what = _COLOURS.sub("", str(error)).strip().partition("\n")[0][:160]
        raise EncoderError(
            f"the back end {backend} cannot run this network ({type(error).__name__}: {what}); use eager"
        ) from error


def _onnxruntime(network: nn.Module, input_px: int) -> OnnxNetwork:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:  # weights of 2 GB and more lie beside the graph, until they are read
        path = Path(folder) / "network.onnx"
        images = torch.export.Dim("images", min=1, max=_MOST_AT_ONCE)
        try:
            example = (torch.zeros(2, 3, input_px, input_px),)
            torch.onnx.export(
                network.cpu().eval(), example, str(path), dynamo=True, dynamic_shapes=({0: images},), verbose=False
            )
        finally:
            logger.setLevel(before)
        return OnnxNetwork(path)


class _OpenVino(nn.Module):
    """A network converted to OpenVINO, in float32."""

    def __init__(self, network: nn.Module, input_px: int) -> None:
        super().__init__()
        import openvino

        example = torch.zeros(2, 3, input_px, input_px)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, which OpenVINO traces networks with
            model = openvino.convert_model(network.cpu().eval(), example_input=example)
        model.reshape([-1, 3, input_px, input_px])
        exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._run: Any = openvino.compile_model(model, "CPU", exact)

    def forward(self, images: Tensor) -> Tensor:
        """Embed each image."""
        return torch.from_numpy(self._run(images.contiguous().numpy())[0])
