"""From what a user types after ``--encoder`` to an encoder."""

from pathlib import Path

from dtcwsi.encoders.base import Encoder
from dtcwsi.errors import EncoderError
from dtcwsi.registry import Registry, near

__all__ = ["ENCODERS", "load_encoder"]

ENCODERS = Registry(
    "encoder",
    {
        "efficientnet-lite0": "dtcwsi.encoders.efficientnet_lite0:load",
        "colour-texture": "dtcwsi.encoders.colour_texture:load",
    },
)


def load_encoder(name: str, *, device: str = "cpu") -> Encoder:
    """Load an encoder by name.

    ``name`` is a name of `ENCODERS`; any timm model (``resnet18``: weights from the hub); a timm model with local
    weights (``resnet18:/weights/mine.safetensors``); or a folder with timm's ``config.json`` and the weights.
    Raises: EncoderError if the name is unknown, or packages or weights are missing.
    """
    if name in ENCODERS:
        loaded: Encoder = ENCODERS.get(name)(device=device)
        return loaded
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
    if Path(name).is_file():
        raise EncoderError(f"{name} is a file of weights; name its timm model too, as in resnet18:{name}")
    if not timm_models.knows(model):
        known = near(model, [*ENCODERS, *timm_models.names()])
        raise EncoderError(f"no encoder is called {model!r}; near names: {known}")
    return timm_models.from_name(model, Path(weights) if weights else None, device=device)
