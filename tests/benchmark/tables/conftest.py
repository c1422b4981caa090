"""A tiny drawn cohort, a table of two rows and its shelf."""

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
