"""Weights on this machine: files and folders, read without running anything that is in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dtcwsi.errors import EncoderError

__all__ = ["find_weights", "mismatch", "read_weights"]

_USUAL = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_INSIDE = ("state_dict", "model", "teacher", "module")
_POINTER = b"version https://git-lfs"


def find_weights(place: Path, files: tuple[str, ...] = ()) -> Path:
    """Find the weights at a place: the file itself, or in a folder one of ``files`` or of the usual names.

    Raises: EncoderError if there are none.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise EncoderError(f"the weights {place} do not exist; expected a .safetensors, .pt, .pth or .bin file")
    named = [place / name for name in dict.fromkeys((*files, *_USUAL))]
    found = next((path for path in named if path.is_file()), None)
    if found is None:
        expected = ", ".join(path.name for path in named)
        raise EncoderError(f"the folder {place} holds no weights; expected one of {expected}, or name the file itself")
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a table of tensors, also from inside a training checkpoint or from shards that an index names.

    Raises: EncoderError if there is none, or if it takes running a pickle to read it.
    """
    try:
        found = _opened(path)
    except EncoderError:
        raise
    except Exception as error:  # noqa: BLE001 - zip, pickle and safetensors errors share no base
        if isinstance(error, UnpicklingError) and "global" in str(error).lower():
            raise EncoderError(
                f"the weights {path} cannot be read without running the pickle in them, which could do anything and is "
                "refused; expected a plain state dict: save that, or .safetensors, on a machine that trusts the file"
            ) from error
        what = str(error).partition("\n")[0].partition(". ")[0]  # torch goes on with how to let the pickle run
        raise EncoderError(
            f"the weights {path} cannot be read ({what or type(error).__name__}); expected a plain state dict as torch "
            "or safetensors saves it: if this was one, the file is cut off, copy or download it again"
        ) from error
    for key in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise EncoderError(f"the weights {path} hold no table of tensors; expected a plain state dict")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def mismatch(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say how tensors differ from those that a network wants, by name and shape; nothing where they do not."""
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    told = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    differing = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if differing:
        first = differing[0]
        got, expected = tuple(state[first].shape), tuple(wanted[first].shape)
        told.append(f"{len(differing)} of another shape (first: {first}, got {got}, expected {expected})")
    return f"of {len(wanted)} tensors {', '.join(told)}" if told else ""


def _opened(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise EncoderError(
                f"{path} is a Git LFS pointer ({path.stat().st_size} bytes) and no weights; expected the file that it "
                "points to: run `git lfs pull` in its repository, or download the file itself"
            )
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.name.endswith(".index.json"):
        shards = set(json.loads(path.read_text())["weight_map"].values())
        return {name: tensor for shard in sorted(shards) for name, tensor in load_file(path.with_name(shard)).items()}
    return torch.load(path, map_location="cpu", weights_only=True)
