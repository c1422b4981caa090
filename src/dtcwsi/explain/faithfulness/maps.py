"""The maps that models make of a slide's patches, and the order in which a map ranks them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dtcwsi.bags.packing import pack
from dtcwsi.classifier import Classifier
from dtcwsi.ensemble import answer, mean_attention
from dtcwsi.explain.fates import attention_percentile
from dtcwsi.nn.order import van_der_corput
from dtcwsi.types import Bag, Prediction

__all__ = ["MAPS", "falling_orders", "maps_from", "maps_of"]

MAPS = ("attention", "importance", "both")


def maps_of(models: Sequence[Classifier], bag: Bag, target: int | None = None) -> dict[str, NDArray[np.float64]]:
    """Ask models for their maps of a bag's patches; see `maps_from`."""
    packed = pack([bag])
    return maps_from([answer(model, packed) for model in models], target)


def maps_from(answers: Sequence[Prediction], target: int | None = None) -> dict[str, NDArray[np.float64]]:
    """Give each patch its value in every map that the models make, each (N,), averaged over the models.

    ``target`` is the class whose map is taken of models that have one a class, else each model's predicted one.
    ``attention`` sums to 1, pruned patches have 0; models that compress by importance also have ``importance``, its
    softmax over all patches before anything is merged or pruned, and ``both``, the mean of the patch's percentiles in
    the two. Percentiles, because the two are spread so differently that a mean of shares would be the sharper one
    alone; their mean and not their product, because by a product the 0 of a pruned patch would outweigh its importance.
    """
    maps = {"attention": mean_attention(answers, target)}
    found = [out.importance for out in answers if out.importance is not None]
    if found:
        maps["importance"] = _mean(found)
        maps["both"] = (attention_percentile(maps["attention"]) + attention_percentile(maps["importance"])) / 2
    return maps


def falling_orders(maps: Mapping[str, NDArray[np.float64]], bag: Bag) -> dict[str, NDArray[np.int64]]:
    """List the patches of a bag from the highest value to the lowest, map by map.

    Ties, such as all pruned patches under attention, are broken by the van der Corput value of a patch's place in the
    bag's spatial order, so that they are thinned evenly over the slide and do not depend on the order in the file.
    """
    order = pack([bag]).order
    row = torch.arange(len(bag)) if order is None else order
    place = torch.empty_like(row).index_copy(0, row, torch.arange(len(bag)))
    spread = van_der_corput(place).numpy()
    return {name: np.lexsort((spread, -values)).astype(np.int64) for name, values in maps.items()}


def _mean(each: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    return np.asarray(np.mean([values.double().cpu().numpy() for values in each], axis=0))
