"""A tiny drawn cohort, a table of two rows and its shelf."""

import numpy as np
import pytest

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables.quick import quick_cohort
from dtcwsi.benchmark.tables.shelf import Protocol, Shelf

QUICK = Protocol(folds=2, epochs=1)


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    return quick_cohort(tmp_path_factory.mktemp("quick"), slides=12)


@pytest.fixture
def shelf(quick, tmp_path):
    return Shelf(tmp_path / "runs", read_cohort(*quick), QUICK)


def write_run(folder, sureness, *, seed=0, slides=60, shuffled=False, folds=2):
    """A run's tables: slide i is of class i % 2, tested in fold i % folds, its patient has two slides."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = [(f"s{i:02d}", "ab"[i % 2], i % folds, rng.normal(sureness * (i % 2))) for i in range(slides)]
    order = rng.permutation(slides) if shuffled else range(slides)
    lines = [f"{s},{label},{fold},a,{1 / (1 + np.exp(x))},{1 / (1 + np.exp(-x))}" for s, label, fold, x in rows]
    head = "slide_id,label,fold,prediction,prob_a,prob_b"
    (folder / "predictions.csv").write_text("\n".join([head, *(lines[i] for i in order)]))
    patients = [f"{row[0]},p{number // 2}" for number, row in enumerate(rows)]
    (folder / "folds.csv").write_text("\n".join(["slide_id,patient_id", *patients]))
    return folder
