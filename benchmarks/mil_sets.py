"""The real multiple-instance sets of Andrews et al. 2002 (elephant, fox, tiger): 200 bags of 230 features each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from dtcwsi.types import Bag

SETS = ("elephant", "fox", "tiger")
FOLDS = 5


def folds_of(path: Path, seed: int, folds: int = FOLDS) -> Iterator[tuple[list[Bag], list[Bag]]]:
    """Deal the bags of a set into stratified folds; features are standardised by the training part of each."""
    with np.load(path) as arrays:
        features, bag, label = arrays["features"], arrays["bag"], arrays["label"]
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(label, label):
        known = features[np.isin(bag, train)]
        spread = known.std(axis=0)
        rows = torch.from_numpy(((features - known.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32))
        bags = [Bag(rows[torch.from_numpy(bag == number)], label=int(label[number])) for number in range(len(label))]
        yield [bags[number] for number in train], [bags[number] for number in test]
