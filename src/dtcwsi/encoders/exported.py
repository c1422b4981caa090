"""Networks that bring their own code, TorchScript and ONNX files, as encoders."""

import hashlib
import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.encoders.onnx_network import OnnxNetwork
from dtcwsi.errors import EncoderError

__all__ = ["from_file", "is_exported"]

_SETTINGS: dict[str, Any] = {  # of ImageNet's networks
    "input_px": None,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "resize": "bilinear",
    "resize_px": None,
    "spacing_um": [],
}
_USUAL_PX, _MOST_PX = 224, 4096
_LISTS = {"mean": _SETTINGS["mean"], "std": _SETTINGS["std"], "spacing_um": [0.5]}


def is_exported(path: Path) -> bool:
    """Whether a file is a network with its code: ONNX by its suffix, TorchScript by what its archive holds."""
    if path.suffix == ".onnx":
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def from_file(path: Path, *, device: str = "cpu") -> NetworkEncoder:
    """Load a TorchScript or ONNX file that takes images (N, 3, px, px) and gives (N, dim).

    ``NAME.json`` beside ``NAME.onnx`` or ``NAME.pt`` may say how input is prepared: ``input_px`` (else that of the ONNX
    graph, else 224), ``mean``, ``std`` (else ImageNet's), ``resize``, ``resize_px``, ``spacing_um``.
    Raises: EncoderError if it cannot be read, or the ONNX runtime is missing.
    """
    settings = _settings(path.with_suffix(".json"))
    network = OnnxNetwork(path, device) if path.suffix == ".onnx" else _torchscript(path)
    input_px = settings["input_px"] or getattr(network, "input_px", None) or _USUAL_PX
    content = _content(path)
    try:
        return NetworkEncoder(
            path.stem,
            network,
            input_px=input_px,
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            resize=settings["resize"],
            resize_px=settings["resize_px"],
            spacing_um=tuple(settings["spacing_um"]),
            digest=content,
            device=device,
        )
    except (RuntimeError, ValueError) as error:
        what = str(error).strip().splitlines()[-1]
        raise EncoderError(
            f"{path} does not take images of {input_px} px ({what}); expected a network of images (N, 3, px, px): "
            f"give input_px in {path.with_suffix('.json').name}"
        ) from error


def _content(path: Path) -> str:
    """Digest a file, and the weights that torch's exporter leaves beside a large one."""
    digests = []
    for file in (path, path.with_name(path.name + ".data")):
        if file.is_file():
            with file.open("rb") as opened:
                digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return _SETTINGS
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path} is no JSON ({error}); expected any of {', '.join(_SETTINGS)}") from error
    unknown = sorted(set(given) - set(_SETTINGS)) if isinstance(given, dict) else ["no table"]
    if unknown:
        raise EncoderError(f"{path} holds {unknown[0]}; expected any of {', '.join(_SETTINGS)}")
    settings = {**_SETTINGS, **given}
    for name, usual in _LISTS.items():
        numbers = settings[name]
        if not isinstance(numbers, list) or not all(isinstance(one, int | float) for one in numbers):
            raise EncoderError(f"{path} has {name} {numbers!r}; expected a list of numbers, such as {usual}")
        if name != "spacing_um" and len(numbers) != 3:
            raise EncoderError(f"{path} has {name} {numbers!r}; expected 3 numbers, a colour each, such as {usual}")
        least = -math.inf if name == "mean" else 0.0
        if not all(least < one < math.inf for one in numbers):
            what = "finite numbers" if name == "mean" else "numbers above 0"
            raise EncoderError(f"{path} has {name} {numbers!r}; expected {what}, such as {usual}")
    for name in ("input_px", "resize_px"):
        side = settings[name]
        if side is not None and (not isinstance(side, int) or not 1 <= side <= _MOST_PX):
            raise EncoderError(f"{path} has {name} {side!r}; expected a whole number of pixels, 1 to {_MOST_PX:,}")
    return settings


def _torchscript(path: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather that the file's maker used torch.export
            network: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        what = str(error).partition("\n")[0]
        raise EncoderError(
            f"{path} cannot be read ({what}); expected a TorchScript file as torch.jit.save makes it"
        ) from error
    return network
