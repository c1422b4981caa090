"""Any timm model as an encoder: weights from the hub, a local file or a folder."""

from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from dtcwsi.encoders.hub import asking_the_hub, why_not_fetched
from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.encoders.preparation import RESIZES
from dtcwsi.encoders.weights import find_weights, mismatch, read_weights
from dtcwsi.errors import EncoderError

_TOLD = 240  # characters of an error of timm's or torch's

__all__ = ["from_folder", "from_name", "knows", "names"]


def names() -> list[str]:
    """Every architecture that the installed timm has."""
    return list(timm.list_models())


def knows(name: str) -> bool:
    """Whether timm has the architecture (a pretrained tag after a dot is allowed)."""
    return bool(timm.is_model(name.partition(".")[0]))


def from_name(name: str, weights: Path | None, *, device: str = "cpu") -> NetworkEncoder:
    """Build a timm model; ``weights`` is a local .safetensors, .pt or .pth or its folder, or None for the hub's.

    Raises: EncoderError if the weights cannot be had or do not fit.
    """
    if weights is None:
        try:
            with asking_the_hub():
                network = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
            raise EncoderError(
                f"the weights of {name!r} could not be fetched from the hub ({why_not_fetched(error)}): download them "
                f"from {_page(name)} elsewhere, and give the local file: --encoder {name}:/path/to/weights.safetensors"
            ) from error
        return _wrap(name, network, device)
    network = timm.create_model(name, pretrained=False, num_classes=0)
    _fill(network, read_weights(find_weights(weights)), weights)
    return _wrap(f"{name}-{weights.stem}", network, device)


def from_folder(folder: Path, *, device: str = "cpu") -> NetworkEncoder:
    """Build a timm model from a folder as the hub stores it: ``config.json`` and the weights.

    Raises: EncoderError if the folder does not hold both.
    """
    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder} has no config.json; expected a folder as timm saves it, or NAME:/path/to/weights")
    try:
        network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
    except Exception as error:  # noqa: BLE001 - json, safetensors, pickle and torch errors share no base
        what = " ".join(str(error).split())[:_TOLD] or type(error).__name__
        raise EncoderError(
            f"the model in {folder} cannot be loaded ({what}); expected a folder as timm saves it"
        ) from error
    return _wrap(folder.resolve().name, network, device)


def _page(name: str) -> str:
    config = timm.get_pretrained_cfg(name)
    return (
        f"https://huggingface.co/{config.hf_hub_id}" if config and config.hf_hub_id else "where its authors keep them"
    )


def _wrap(name: str, network: Any, device: str) -> NetworkEncoder:
    config = timm.data.resolve_model_data_config(network)
    size, mean, std = config["input_size"][-1], tuple(config["mean"]), tuple(config["std"])
    resize = config["interpolation"] if config["interpolation"] in RESIZES else RESIZES[0]
    name = name.replace("/", "-")
    return NetworkEncoder(name, network, input_px=size, mean=mean, std=std, resize=resize, device=device)


def _fill(network: Any, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict; a classifier head that the encoder does not use is left out."""
    wanted = network.state_dict()
    head = (network.pretrained_cfg or {}).get("classifier") or "head"
    heads = (head,) if isinstance(head, str) else tuple(head)
    counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    known = {name: tensor for name, tensor in state.items() if name in wanted or not name.startswith(heads)}
    state = {**counters, **known}  # older files lack counters, and nothing reads them
    told = mismatch(state, wanted)
    if told:
        raise EncoderError(f"{path} holds weights of another model: {told}; name the timm model that they belong to")
    network.load_state_dict(state)
