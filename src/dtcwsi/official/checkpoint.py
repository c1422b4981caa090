"""What a saved checkpoint holds, under the names that its model gave."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from dtcwsi.errors import UsageError
from dtcwsi.official.published import State

__all__ = ["check_apart", "unwrapped"]

_WRAPPER = re.compile(r"(^|(?<!\d)[.]|[.](?!module[.]\d))module[.]")  # between numbers it is of CLAM without a gate


def unwrapped(state_dict: object) -> State:
    """Take the weights out of a checkpoint, and what wrappers put in front of their names.  Raises: UsageError."""
    if isinstance(state_dict, Mapping) and isinstance(state_dict.get("state_dict"), Mapping):
        state_dict = state_dict["state_dict"]
    _check_state(state_dict)
    assert isinstance(state_dict, Mapping)
    names = {key: _WRAPPER.sub(r"\1", key) for key in state_dict}
    if 2 * sum(name.startswith("model.") for name in names.values()) > len(names):
        names = {key: name.removeprefix("model.") for key, name in names.items()}
    check_apart(names)
    return {name: state_dict[key] for key, name in names.items()}


def check_apart(names: Mapping[str, str | None]) -> None:
    """Refuse keys of one meaning, of which only one could be loaded.  Raises: UsageError."""
    meanings: dict[str, list[str]] = {}
    for key, name in names.items():
        if name is not None:
            meanings.setdefault(name, []).append(key)
    same = [" and ".join(keys) for keys in meanings.values() if len(keys) > 1]
    if same:
        raise UsageError(
            f"the state dict has several weights for one layer: {', '.join(same)}; leave out those that the model does "
            "not use"
        )


def _check_state(state_dict: object) -> None:
    """Refuse what is no mapping of names to tensors.  Raises: UsageError."""
    if isinstance(state_dict, torch.nn.Module):
        raise UsageError(f"got the module {type(state_dict).__name__}; expected its state dict: pass .state_dict()")
    if not isinstance(state_dict, Mapping):
        raise UsageError(f"got {type(state_dict).__name__}; expected a state dict, such as torch.load(path) gives")
    if not state_dict:
        raise UsageError("got a state dict without a key; expected the weights of a trained model")
    for key, tensor in state_dict.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            advice = f"pass what is under {key!r}" if isinstance(tensor, Mapping) else "leave out what is none"
            raise UsageError(
                f"got {type(tensor).__name__} under {key!r}; expected a tensor under every name of the state dict; "
                f"{advice}"
            )
    elsewhere = [
        key
        for key, tensor in state_dict.items()
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided
    ]
    if elsewhere:
        raise UsageError(
            f"the state dict has quantised, sparse or empty (meta) tensors in {', '.join(elsewhere)}; expected dense "
            "numbers, such as .dequantize() or .to_dense() give"
        )
    broken = [key for key, tensor in state_dict.items() if not _finite(tensor)]
    if broken:
        raise UsageError(f"the state dict has NaN or infinite numbers in {', '.join(broken)}; expected finite weights")


def _finite(tensor: Tensor) -> bool:
    """Say whether all numbers are finite; those of one byte have no such test of their own."""
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())
