"""Bags to one ragged matrix, without padding."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dtcwsi.errors import FeaturesError
from dtcwsi.nn.order import infer_step, spatial_order
from dtcwsi.store.features import read_features
from dtcwsi.types import Bag, Features, PackedBags

__all__ = ["bag_of", "join", "load_bag", "pack"]


def bag_of(features: Features, label: int | None = None) -> Bag:
    """Turn a slide's features into a bag of tensors."""
    coords = None if features.coords is None else torch.from_numpy(np.asarray(features.coords))
    rows = torch.from_numpy(np.asarray(features.features))
    return Bag(rows, coords, features.patch_size_level0, label, features.slide_id)


def load_bag(path: str | Path, label: int | None = None) -> Bag:
    """Read a feature file as a bag.

    Raises: FeaturesError if the file cannot be read, has no features, or holds NaN or infinity.
    """
    return bag_of(read_features(Path(path)), label)


def pack(bags: Sequence[Bag]) -> PackedBags:
    """Put bags into one matrix, patches in the order given, and note each bag's spatial order.

    A bag with coordinates gets the order along the Hilbert curve of its grid cells, so that permuting its patches
    changes nothing that depends on order, unless several have one place: these stay as given. A bag without
    coordinates keeps the order given.
    Returns: a ragged batch; ``coords`` are dropped if any bag lacks them, the orders of the others are not.
    Raises: FeaturesError if there is no bag, or widths or number types differ.
    """
    if not isinstance(bags, Sequence) or not all(isinstance(bag, Bag) for bag in bags):
        raise FeaturesError(f"got {type(bags).__name__}; expected a list of bags: dtcwsi.pack([dtcwsi.Bag(features)])")
    return join([_pack_one(bag) for bag in bags])


def join(packs: Sequence[PackedBags]) -> PackedBags:
    """Put packed bags one after another, orders included, without working them out again.

    Raises: FeaturesError if there is none, or widths differ.
    """
    if not packs:
        raise FeaturesError("a batch holds no bag; expected at least one")
    if len(packs) == 1:
        return packs[0]
    _check_widths(packs)
    _check_types(packs)
    ends = torch.tensor([len(pack.features) for pack in packs]).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    coords = _joined([pack.coords for pack in packs])
    tails = [pack.offsets[1:] + start for pack, start in zip(packs, starts, strict=True)]
    return PackedBags(
        torch.cat([pack.features for pack in packs]),
        torch.cat([packs[0].offsets[:1], *tails]),
        coords,
        _joined([pack.patch_size_level0 for pack in packs]),
        _joined([pack.labels for pack in packs]),
        tuple(slide_id for pack in packs for slide_id in pack.slide_ids),
        _joined_order(packs, starts),
        coords is None and any(_placed(pack) or pack.coords_dropped for pack in packs),
        _joined([pack.step_level0 for pack in packs]),
    )


def _placed(pack: PackedBags) -> bool:
    return pack.coords is not None and len(pack.features) > 0


def _pack_one(bag: Bag) -> PackedBags:
    device, step = bag.features.device, _step(bag)
    given = bag.patch_size_level0 or math.nan
    nowhere = torch.zeros(0, 2, dtype=torch.int64, device=device) if not len(bag) else None  # has nothing to place
    return PackedBags(
        bag.features.contiguous(),  # sums along the rows of another layout have other last bits
        torch.tensor([0, len(bag)], device=device),
        nowhere if bag.coords is None else bag.coords,
        torch.tensor([given], dtype=torch.float32, device=device),
        torch.tensor([-1 if bag.label is None else bag.label], device=device),
        (bag.slide_id,),
        _order(bag, step),
        step_level0=torch.tensor([step], dtype=torch.float32, device=device),
    )


def _step(bag: Bag) -> float:
    if bag.coords is None and len(bag):
        return math.nan  # there is no grid to have a step
    if bag.patch_size_level0:
        return float(bag.patch_size_level0)
    return math.nan if bag.coords is None else infer_step(bag.coords.detach().cpu().numpy())


def _order(bag: Bag, step: float) -> Int[Tensor, "patches"] | None:
    if bag.coords is None or len(bag) < 2:
        return None
    order = spatial_order(bag.coords.detach().cpu().numpy(), step)
    if np.array_equal(order, np.arange(len(order))):
        return None
    return torch.from_numpy(order).to(bag.features.device)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if len(there) == len(parts) else None


def _joined_order(packs: Sequence[PackedBags], starts: Sequence[int]) -> Int[Tensor, "patches"] | None:
    if all(pack.order is None for pack in packs):
        return None
    orders = [
        torch.arange(len(pack.features), device=pack.features.device) if pack.order is None else pack.order
        for pack in packs
    ]
    return torch.cat([order + start for order, start in zip(orders, starts, strict=True)])


def _check_types(packs: Sequence[PackedBags]) -> None:
    types = {pack.features.dtype: _named(pack, number) for number, pack in enumerate(packs)}
    if len(types) > 1:
        told = "; ".join(f"{dtype} ({name})" for dtype, name in types.items())
        raise FeaturesError(f"bags of one batch differ in type: {told}; convert their features to one")


def _check_widths(packs: Sequence[PackedBags]) -> None:
    widths = {pack.features.shape[1]: _named(pack, number) for number, pack in enumerate(packs)}
    if len(widths) > 1:
        told = "; ".join(f"{width} ({name})" for width, name in sorted(widths.items()))
        raise FeaturesError(f"bags of one batch differ in width: {told}; use features of one encoder")


def _named(pack: PackedBags, number: int) -> str:
    return ", ".join(slide_id or f"bag {number}" for slide_id in pack.slide_ids)
