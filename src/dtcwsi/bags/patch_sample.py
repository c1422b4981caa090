"""A sample of patches from many bags, for what is fitted without gradient."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.types import Bag, PackedBags

__all__ = ["Bags", "check_bags", "sample_patches"]


@runtime_checkable
class Bags(Protocol):
    """A list of bags or batches, or what reads them one after another."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Bag | PackedBags]: ...


def check_bags(bags: Any) -> None:
    """Refuse what is no list of bags.  Raises: OptionError."""
    if isinstance(bags, Bag | PackedBags | Tensor) or not hasattr(bags, "__len__"):
        raise OptionError(f"got {type(bags).__name__}; expected a list of bags or of packed batches")
    others = [bag for bag in bags if not isinstance(bag, Bag | PackedBags)] if isinstance(bags, list | tuple) else []
    if others:
        raise OptionError(f"got a list with {type(others[0]).__name__}; expected dtcwsi.Bag or packed batches")


def sample_patches(bags: Bags, count: int, *, seed: int) -> Float[Tensor, "patches dim"]:
    """Draw about ``count`` patches, as many from every bag or batch, all of it where it has fewer.

    Returns: float32 on the CPU.
    Raises: FeaturesError if no bag has a patch, or their widths differ; OptionError if it is no list.
    """
    check_bags(bags)
    generator = torch.Generator().manual_seed(seed)
    each = -(-count // max(1, len(bags)))
    drawn = []
    for bag in bags:
        chosen = torch.randperm(len(bag.features), generator=generator)[:each]
        drawn.append(bag.features[chosen.to(bag.features.device)].float().cpu())
    widths = sorted({part.shape[1] for part in drawn})
    if len(widths) > 1:
        raise FeaturesError(f"got bags of widths {widths}; expected one width: use features of one encoder")
    patches = torch.cat(drawn) if drawn else torch.zeros(0, 0)
    if not len(patches):
        raise FeaturesError(f"got {len(bags)} bags without a patch; expected patches to fit prototypes to")
    return patches
