"""The weights that training begins with."""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["start"]


def start(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """Draw the weights of every linear map in a module, convolutions over sequences among them, anew; biases are 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d):
            draw(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
