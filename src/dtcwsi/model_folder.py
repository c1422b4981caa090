"""A saved model: ``model.safetensors`` and ``card.json``; nothing in them is executed."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from dtcwsi.errors import UsageError
from dtcwsi.store.atomic import write_bytes, write_json

__all__ = ["WEIGHTS", "package_versions", "read_card", "read_weights", "write_model"]

WEIGHTS, _CARD, _FORMAT = "model.safetensors", "card.json", "dtcwsi-model-1"


def write_model(folder: Path, state: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write both files; the card also gets the format and the versions of packages."""
    write_bytes(folder / WEIGHTS, save(state))
    write_json(folder / _CARD, {"format": _FORMAT, **card, "versions": package_versions()})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a state dict.  Raises: OSError or SafetensorError if the file is gone or damaged."""
    state: dict[str, Tensor] = load_file(folder / WEIGHTS)
    return state


def read_card(folder: Path) -> dict[str, Any]:
    """Read what a model is.  Raises: UsageError if the folder holds no model, or one of another format."""
    try:
        card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} holds no readable {_CARD}; expected a folder that a model was saved to, such as RUN/fold0"
        ) from error
    if card.get("format") != _FORMAT:
        by = f" ({written})" if (written := written_by(card)) else ""
        raise UsageError(
            f"{folder / _CARD} has format {card.get('format')!r}; this version reads {_FORMAT!r}: load it with the "
            f"dtcwsi that wrote it{by}, or train again"
        )
    return card


def written_by(card: dict[str, Any]) -> str | None:
    """Name the version of dtcwsi that wrote a card; None if it does not say."""
    told = (card.get("versions") or {}).get("dtcwsi")
    return told if isinstance(told, str) and told[:1].isdigit() else None


def package_versions() -> dict[str, str]:
    """Name the versions that a result depends on."""
    versions: dict[str, str] = {"torch": str(torch.__version__)}
    for package in ("dtcwsi", "numpy", "scikit-learn", "lightning"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
