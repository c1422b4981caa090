"""Bags that never were slides, in the files that training reads."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dtcwsi.store.hdf5 import write_hdf5
from dtcwsi.store.tables import write_table
from dtcwsi.types import Bag

__all__ = ["write_feature_cohort"]


def write_feature_cohort(out: Path, bags: Iterable[Bag], classes: Sequence[str] = ()) -> None:
    """Write ``features/given/ID.h5`` for each labelled bag, and ``labels.csv``, last; every bag is a patient.

    ``classes`` names the labels, which are called class 0, class 1 ... without.
    """
    folder = out / "features" / "given"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, bag in enumerate(bags):
        slide_id = f"bag{number:04d}"
        with write_hdf5(folder / f"{slide_id}.h5", {}) as file:
            file["features"] = bag.features.numpy().astype(np.float32)
            if bag.coords is not None:
                file["coords"] = bag.coords.numpy().astype(np.int64)
            if bag.patch_size_level0 is not None:
                file["coords"].attrs["patch_size_level0"] = bag.patch_size_level0
        assert bag.label is not None
        rows.append((slide_id, classes[bag.label] if classes else f"class {bag.label}", slide_id))
    write_table(out / "labels.csv", ("slide_id", "label", "patient_id"), rows)
