"""Real multiple-instance sets (Andrews et al. 2002: elephant, fox, tiger) as feature files."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from dtcwsi.benchmark.cohorts.feature_cohort import write_feature_cohort
from dtcwsi.errors import UsageError
from dtcwsi.types import Bag

__all__ = ["write_mil_set"]

_ARRAYS = ("features", "bag", "label")


def write_mil_set(path: Path, out: Path) -> None:
    """Write a set's bags as feature files without coordinates, and ``labels.csv``; every bag is a patient.

    ``path`` is an .npz with ``features`` (instances, dim), ``bag`` (instances,) numbers from 0 and ``label`` (bags,).
    Features are standardised over the whole set: labels have no part in it.
    Raises: UsageError if the file holds anything else.
    """
    import torch

    try:
        with np.load(path) as arrays:
            features, bag, label = (np.asarray(arrays[name]) for name in _ARRAYS)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise UsageError(f"{path} cannot be read ({error}); expected an .npz with features, bag and label") from error
    shaped = features.ndim == 2 and label.ndim == 1 and bag.shape == features.shape[:1]
    if not shaped or set(bag.tolist()) != set(range(len(label))):
        raise UsageError(
            f"{path} has features {features.shape}, bag {bag.shape} and label {label.shape}; expected "
            "(instances, dim), (instances,) with every number of a bag, and (bags,)"
        )
    spread = features.std(axis=0)
    rows = ((features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    bags = (Bag(torch.from_numpy(rows[bag == number]), label=int(label[number])) for number in range(len(label)))
    write_feature_cohort(out, bags)
