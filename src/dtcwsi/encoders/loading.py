"""From what a user types after ``--encoder`` to an encoder."""

import re
from pathlib import Path

from dtcwsi.encoders.base import Encoder
from dtcwsi.encoders.cards import cards
from dtcwsi.errors import EncoderError
from dtcwsi.registry import Registry, near

__all__ = ["ENCODERS", "load_encoder"]

_FILES = (".onnx", ".pt", ".pth", ".bin", ".safetensors")

ENCODERS = Registry(
    "encoder",
    {
        "efficientnet-lite0": "dtcwsi.encoders.efficientnet_lite0:load",
        "colour-texture": "dtcwsi.encoders.colour_texture:load",
        **{name: f"dtcwsi.encoders.by_card:{name}" for name in cards()},
    },
)


def load_encoder(name: str, *, device: str = "cpu", backend: str = "eager") -> Encoder:
    """Load an encoder by name; ``backend``, one of `BACKENDS`, runs its network.

    ``name`` is a name of `ENCODERS`; one that has a card with local weights, a file or a folder (``uni:/weights``), or
    another revision of the hub's (``uni@main``); any timm model (``resnet18``: weights from the hub); a timm model with
    local weights (``resnet18:/weights/mine.safetensors``); a folder with timm's ``config.json`` and the weights; or a
    TorchScript or ONNX file.
    Raises: EncoderError if the name is unknown, packages or weights are missing, or the back end cannot run it.
    """
    encoder = _loaded(name, device)
    if backend == "eager":
        return encoder
    run_on = getattr(encoder, "run_on", None)
    if run_on is None:
        raise EncoderError(f"got back end {backend!r} and {name} is no network; leave the back end out")
    other: Encoder = run_on(backend)
    return other


def _loaded(name: str, device: str) -> Encoder:
    if name in ENCODERS:
        loaded: Encoder = ENCODERS.get(name)(device=device)
        return loaded
    model, _, weights = name.partition(":")
    carded = re.fullmatch(r"(?P<card>[^@]+)@(?P<revision>.+)", model)
    if weights and model in cards():
        return _load_card(model, weights=weights, device=device)
    if carded and carded["card"] in cards():
        return _load_card(carded["card"], weights=weights, revision=carded["revision"], device=device)
    if Path(name).is_file():
        return _from_file(Path(name), device)
    return _from_timm(name, device)


def _load_card(name: str, *, weights: str, revision: str | None = None, device: str) -> Encoder:
    from dtcwsi.encoders.by_card import load_card

    if weights and revision:
        raise EncoderError(f"got a revision of the hub's {name} and local weights; name one of them")
    return load_card(cards()[name], Path(weights) if weights else None, revision=revision, device=device)


def _from_file(path: Path, device: str) -> Encoder:
    from dtcwsi.encoders.exported import from_file, is_exported

    if not is_exported(path):
        raise EncoderError(
            f"{path} is a file of weights; name its timm model too, as in resnet18:{path}, or its encoder"
        )
    return from_file(path, device=device)


def _from_timm(name: str, device: str) -> Encoder:
    try:
        from dtcwsi.encoders import timm_models
    except ImportError as error:
        raise EncoderError(
            f"no encoder is called {name!r} without timm; near names: {near(name, ENCODERS)}; "
            'for timm models: pip install "dtcwsi[encoders]"'
        ) from error
    model, _, weights = name.partition(":")
    if Path(name).is_dir():
        return timm_models.from_folder(Path(name), device=device)
    if not timm_models.knows(model):
        if weights and model in ENCODERS:
            raise EncoderError(f"the encoder {model} has its own weights, and takes no others; leave {weights} out")
        if Path(name).suffix in _FILES or "/" in model:
            raise EncoderError(f"there is no file or folder {name}, and no encoder of that name; check the path")
        likest = [known for known in ENCODERS if known.casefold() == model.casefold()]
        known = ", ".join(likest) or near(model, [*ENCODERS, *timm_models.names()])
        raise EncoderError(f"no encoder is called {model!r}; near names: {known}; `dtcwsi encoders` lists all")
    return timm_models.from_name(model, Path(weights) if weights else None, device=device)
