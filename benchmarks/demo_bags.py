"""Bags of the cohort of `dtcwsi demo`: 60 slides of some 126 patches, a lesion of one kind or the other in each."""

from collections.abc import Iterator
from pathlib import Path

from sklearn.model_selection import StratifiedGroupKFold

from dtcwsi.bags.packing import load_bag
from dtcwsi.store.features import feature_files
from dtcwsi.store.tables import read_rows
from dtcwsi.types import Bag

FOLDS = 5


def folds_of(demo: Path, seed: int) -> Iterator[tuple[list[Bag], list[Bag]]]:
    """Deal the slides into stratified folds that no patient is in twice."""
    files = feature_files(demo)
    rows = [row for row in read_rows(demo / "labels.csv") if row["slide_id"] in files]
    classes = sorted({row["label"] for row in rows})
    labels = [classes.index(row["label"]) for row in rows]
    bags = [load_bag(files[row["slide_id"]], label) for row, label in zip(rows, labels, strict=True)]
    patients = [row["patient_id"] for row in rows]
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, patients):
        yield [bags[number] for number in train], [bags[number] for number in test]
