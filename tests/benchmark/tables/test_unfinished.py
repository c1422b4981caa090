import csv
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables.definitions import Configuration, Table
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.page import write_table_files
from dtcwsi.benchmark.tables.shelf import Shelf
from dtcwsi.training.data import SlideFeatures

from .conftest import QUICK

ROWS = {"A": Configuration("mean"), "B": Configuration("max"), "C": Configuration("random-mean", {"retention": 0.5})}
TABLE = Table("Three rows", ROWS, {name: {} for name in ROWS})


def make(shelf, table=TABLE, **given):
    return make_table("table9", table, [shelf], **{"beside": "panda", "cohort": "tiny", **given})


@pytest.fixture
def reads(monkeypatch):
    """Every slide that is read from disk, in order."""
    found, real = [], SlideFeatures.slide

    def watched(features, index):
        before = features.reads
        packed = real(features, index)
        if features.reads > before:
            found.append(features.files[index].stem)
        return packed

    monkeypatch.setattr(SlideFeatures, "slide", watched)
    return found


def test_slides_are_read_once_a_table_and_not_for_runs_that_are_finished(shelf, quick, reads):
    make(shelf)
    assert len(reads) == len(set(reads)) == 12
    reads.clear()
    assert make(Shelf(shelf.folder, read_cohort(*quick), QUICK)).complete
    assert reads == []


def test_a_killed_table_keeps_a_page_of_its_finished_rows(shelf, tmp_path):
    pages = []

    def write(made):
        write_table_files(made, tmp_path, command="dtcwsi bench table9")
        pages.append((made.pending, (tmp_path / "table9.md").read_text()))
        if len(made.pending) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(shelf, on_row=write)
    assert [pending for pending, _ in pages] == [("B", "C"), ("C",)]
    assert "Unfinished: 1 of 3 rows is to come: C." in pages[-1][1]
    with (tmp_path / "table9.csv").open(newline="") as file:
        assert [row["ours_acc"] == "not run" for row in csv.DictReader(file)] == [False, False, True]
    assert json.loads((tmp_path / "table9.json").read_text())["pending"] == ["C"]


def test_finished_rows_are_all_on_the_first_page_that_a_resumed_table_writes(shelf):
    make(shelf, Table("Two rows", {"B": ROWS["B"], "C": ROWS["C"]}, {"B": {}, "C": {}}))
    pages = []
    whole = make(shelf, on_row=pages.append)
    assert [page.pending for page in pages] == [("A",), ()]
    assert not pages[0].complete
    assert [row.name for row in pages[0].rows if row.ours] == ["B", "C"]
    assert pages[-1] == whole
    assert whole.complete


def test_classes_that_differ_in_case_alone_are_told_of_once(quick, tmp_path):
    labels, features = quick
    header, first, *others = labels.read_text().splitlines()
    name = first.split(",")[1]
    changed = tmp_path / "labels.csv"
    changed.write_text("\n".join([header, first.replace(f",{name}", f",{name.upper()}", 1), *others]) + "\n")
    lines = []
    make(Shelf(tmp_path / "runs", read_cohort(changed, features), QUICK), tell=lines.append)
    assert sum(f"2 classes, '{name.upper()}', '{name}', differ in case or spaces alone" in line for line in lines) == 1


def test_slides_that_were_refused_are_counted_named_and_no_success(quick, tmp_path):
    labels, features = quick
    shutil.copytree(features, tmp_path / "features")
    damaged = min((tmp_path / "features").glob("*.h5"))
    with h5py.File(damaged, "r+") as file:
        file["features"][0, 0] = np.nan
    shelf, lines = Shelf(tmp_path / "runs", read_cohort(labels, tmp_path / "features"), QUICK), []
    made = make(shelf, tell=lines.append)
    assert not made.complete
    assert not any(row.failed for row in made.rows)
    assert str(made.uses[0]) == "11 of 12 slides used (1 refused), of 8 patients"
    assert sum(f"left out, {made.refused[damaged.stem]}" in line for line in lines) == 1  # not once a row
    page = write_table_files(made, tmp_path, command="")[2].read_text()
    assert "11 of 12 slides used (1 refused), of 8 patients" in page
    assert f"Refused: {damaged.stem}: " in page
    assert "more, with their reasons" not in page
    use = replace(made.uses[0], refused={f"s{number:02}": "unread" for number in range(7)})
    page = write_table_files(replace(made, uses=(use,)), tmp_path / "many", command="")[2].read_text()
    assert page.count("Refused: s0") == 5
    assert "Refused: 2 more, with their reasons in table9.json." in page
    told = json.loads((tmp_path / "table9.json").read_text())
    assert (told["slides"], told["labelled"], list(told["refused"])) == (11, 12, [damaged.stem])
