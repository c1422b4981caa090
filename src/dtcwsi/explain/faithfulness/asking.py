"""Models asked about parts of a bag, as one voice: several models averaged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dtcwsi.bags.packing import pack
from dtcwsi.classifier import Classifier
from dtcwsi.ensemble import answer
from dtcwsi.types import Bag, PackedBags

__all__ = ["Chances", "chances_of", "part_of"]

MAX_TOKENS = 16_384
"""Patches computed at once: 84 MB of features of width 1,280."""


@dataclass(frozen=True)
class Chances:
    """What models say of bags, each array (bags,): mean ``probability`` and mean ``margin`` of one class.

    The margin is the class's logit minus the largest of the others.
    """

    probability: NDArray[np.float64]
    margin: NDArray[np.float64]


def chances_of(
    models: Sequence[Classifier], bag: Bag, parts: Sequence[NDArray[np.int64]], target: int, *, max_tokens: int
) -> Chances:
    """Ask the models about parts of a bag, each given by its patches (indices, in any order), in ragged batches.

    A part keeps the coordinates and the patch size of the whole; a model that compresses does so anew for each part.
    A part without patches is answered as every bag without patches is: by the training class shares.
    """
    each = [
        np.concatenate([_told(model, batch, target) for batch in _batches(bag, parts, max_tokens)], axis=1)
        for model in models
    ]
    probability, margin = np.mean(each, axis=0)
    return Chances(probability, margin)


def part_of(bag: Bag, patches: NDArray[np.int64]) -> Bag:
    """Take some of a bag's patches, in the bag's order."""
    rows = torch.from_numpy(np.sort(patches))
    coords = None if bag.coords is None else bag.coords[rows]
    return Bag(bag.features[rows], coords, bag.patch_size_level0, slide_id=bag.slide_id)


def _told(model: Classifier, packed: PackedBags, target: int) -> NDArray[np.float64]:
    logits = answer(model, packed).logits.double().cpu()
    others = logits.clone()
    others[:, target] = -torch.inf
    margin = logits[:, target] - others.amax(dim=1)
    return torch.stack([logits.softmax(dim=1)[:, target], margin]).numpy()


def _batches(bag: Bag, parts: Sequence[NDArray[np.int64]], max_tokens: int) -> Iterator[PackedBags]:
    waiting: list[Bag] = []
    count = 0
    for part in parts:
        if waiting and count + len(part) > max_tokens:
            yield pack(waiting)
            waiting, count = [], 0
        waiting.append(part_of(bag, part))
        count += len(part)
    yield pack(waiting)
