"""Linear maps of many rows, by the quicker of the two kernels that torch has for them on a processor."""

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Linear", "convolved", "convolves", "linear"]

# oneDNN keeps the kernels of 1,024 shapes, up to a MB each, and every slide is a shape of its own; read at the first
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
_FEW = 1 << 22  # multiplications: with fewer, nothing is gained
_NARROW = 16


class Linear(nn.Linear):
    """`torch.nn.Linear`, of the same weights and state dict, by `linear`."""

    def forward(self, input: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows out"]:  # noqa: A002  # torch's name
        """Map every row by itself."""
        return linear(input, self.weight, self.bias)


def linear(
    rows: Float[Tensor, "*rows width"], weight: Float[Tensor, "out width"], bias: Float[Tensor, "out"] | None = None
) -> Float[Tensor, "*rows out"]:
    """Multiply rows by the weights and add the bias, as `torch.nn.functional.linear` does but for rounding.

    In float32, torch gives matrix products on a processor to MKL, which on AMD's leaves half of AVX-512 idle, and
    convolutions to oneDNN, which uses all of it: twice the speed there, not measured on others. A linear map is a
    convolution by one tap. Below some thousand rows, a number of them that is new costs a part of the gain.
    """
    if not convolves(rows, weight) or rows.numel() * len(weight) < _FEW or min(weight.shape) < _NARROW:
        return functional.linear(rows, weight, bias)
    return convolved(rows, weight, bias)


def convolved(
    rows: Float[Tensor, "*rows width"], weight: Float[Tensor, "out width"], bias: Float[Tensor, "out"] | None = None
) -> Float[Tensor, "*rows out"]:
    """Map rows by one tap, where `convolves` holds.

    Of two calls of one shape, equal rows give equal results to the last bit, wherever they lie and whatever lies around
    them; of matrix products in float32 that holds for some shapes alone.
    """
    image = rows.reshape(1, -1, 1, rows.shape[-1]).permute(0, 3, 1, 2)
    # one tap has nothing to dilate, but torch leaves undilated ones to MKL if it has a single thread
    made = functional.conv2d(image, weight[:, :, None, None], bias, dilation=2)
    # not as a view, of which autograd would copy the slopes where an activation acts in place
    mapped: Tensor = torch.ops.aten._unsafe_view(made.permute(0, 2, 3, 1).contiguous(), [*rows.shape[:-1], len(weight)])
    return mapped


def convolves(rows: Tensor, weight: Tensor) -> bool:
    """Say whether torch gives the convolution of these to oneDNN's kernels for AVX-512."""
    return (
        not torch.compiler.is_compiling()
        and rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and not torch.is_autocast_enabled("cpu")
    )
