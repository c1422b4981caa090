import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from dtcwsi.benchmark.tables import comparing
from dtcwsi.benchmark.tables.comparing import Compared, compare_runs, corrected
from dtcwsi.benchmark.tables.definitions import TABLES, Configuration, Table
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.page import write_table_files
from dtcwsi.metrics import METRICS

from .conftest import write_run

ROWS = {"A": Configuration("mean"), "B": Configuration("max"), "C": Configuration("max", {"projection": -1})}


def auc_of(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = np.array([[float(row["prob_a"]), float(row["prob_b"])] for row in rows])
    return METRICS["auc"](np.array(["ab".index(row["label"]) for row in rows]), told)


def test_a_better_row_is_told_from_its_reference_whatever_the_order_of_slides(tmp_path):
    good, bad = write_run(tmp_path / "good", 3), write_run(tmp_path / "bad", 0.3, seed=1, shuffled=True)
    found = compare_runs("bad", [good], [bad], "auc")
    assert found.reference == "bad"
    assert found.value == pytest.approx(100 * (auc_of(good) - auc_of(bad)))
    assert 0 < found.low < found.value < found.high
    assert found.p < 0.01
    back = compare_runs("good", [bad], [good], "auc")
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_rows_that_are_alike_are_not_told_apart(tmp_path):
    one, other = write_run(tmp_path / "one", 1), write_run(tmp_path / "other", 1, seed=1)
    assert compare_runs("other", [one], [other], "accuracy").p > 0.05
    same = compare_runs("one", [one], [one], "auc")
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_an_accuracy_of_which_few_patients_differ_is_not_sure(tmp_path):
    """Of 30 patients none differs: up to 11.6 % might, by the exact limit; draws of them never would."""
    one = write_run(tmp_path / "one", 1)
    same = compare_runs("one", [one], [one], "accuracy")
    assert (same.value, same.p) == (0, 1)
    assert (same.low, same.high) == pytest.approx((-11.57, 11.57), abs=0.01)
    wrong = tmp_path / "wrong"
    shutil.copytree(one, wrong)
    lines = (wrong / "predictions.csv").read_text().splitlines()
    right = next(
        n for n, line in enumerate(lines[1:], 1) if line.split(",")[1] == "a" and float(line.split(",")[4]) > 0.5
    )
    cells = lines[right].split(",")
    lines[right] = ",".join([*cells[:4], cells[5], cells[4]])
    (wrong / "predictions.csv").write_text("\n".join(lines))
    found = compare_runs("wrong", [one], [wrong], "accuracy")
    assert found.value == pytest.approx(100 / 60)
    assert found.p == 1
    assert (found.low, found.high) == pytest.approx((0.084 - 11.57, 17.22), abs=0.01)


def test_seeds_are_averaged(tmp_path):
    ours = [write_run(tmp_path / f"o{seed}", 2, seed=seed) for seed in (0, 1)]
    theirs = [write_run(tmp_path / f"t{seed}", 1, seed=10 + seed) for seed in (0, 1)]
    wanted = np.mean([auc_of(mine) - auc_of(their) for mine, their in zip(ours, theirs, strict=True)])
    assert compare_runs("t", ours, theirs, "auc").value == pytest.approx(100 * wanted)


def test_runs_that_tested_other_slides_or_other_folds_are_not_compared(tmp_path):
    one, fewer = write_run(tmp_path / "one", 1), write_run(tmp_path / "fewer", 1, slides=58)
    otherwise = write_run(tmp_path / "otherwise", 1, folds=3)
    for ours, theirs in (([one], [fewer]), ([one], [otherwise]), ([one, one], [one]), ([], [])):
        assert compare_runs("x", ours, theirs, "auc") is None


def test_p_values_are_corrected_for_all_rows_that_could_be_compared():
    one = Compared("r", 0.0, 0.0, 0.0, 0.01, 0.01, 30)
    told = corrected({"A": one, "B": None, "C": replace(one, p=0.03, p_holm=0.03)})
    assert told["B"] is None
    assert (told["A"].p_holm, told["C"].p_holm) == (0.02, 0.03)


def test_every_table_names_references_among_its_rows():
    for table in TABLES.values():
        assert table.against
        assert set(table.against) | set(table.against.values()) == set(table.rows)
    assert TABLES["table1"].against["ABMIL"] == "DTC-WSI"
    assert TABLES["table6"].against == {
        name: f"DTC-{name}" for name in ("ABMIL, CONCH", "TransMIL, CONCH", "ABMIL, Virchow2", "TransMIL, Virchow2")
    }


def test_comparisons_stand_on_all_three_files(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "FEW_PATIENTS", 8)
    table = Table("Three rows", ROWS, {name: {} for name in ROWS}, reference="B")
    made = make_table("table9", table, [shelf], beside="panda", cohort="tiny")
    one = made.rows[0].compared
    runs = [[tmp_path / run for run in row.runs] for row in made.rows]
    assert one == compare_runs("B", runs[0], runs[1], "auc")
    assert made.rows[1].compared is made.rows[2].compared is None
    paths = write_table_files(made, tmp_path, command="")
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reference"] for row in rows] == ["B", "", "B"]
    assert [row["p_auc"] == "" for row in rows] == [False, True, True]
    told = json.loads(paths[1].read_text())["rows"][0]
    assert told["difference_auc"] == float(rows[0]["difference_auc"]) == round(one.value, 5)
    assert (told["difference_auc_low"], told["difference_auc_high"]) == (round(one.low, 5), round(one.high, 5))
    assert told["p_holm_auc"] == round(one.p_holm, 5)
    assert (told["n_folds"], rows[0]["n_folds"]) == (2, "2")
    page = paths[2].read_text()
    assert "| AUC - reference | p (Holm) |" in page
    assert f"| {one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}] |" in page
    assert "| reference | - |" in page
    assert "patients drawn with replacement" in page
    assert "too few" not in page


def test_few_patients_have_a_difference_and_no_interval(shelf, tmp_path):
    table = Table("Three rows", ROWS, {name: {} for name in ROWS}, reference="B")
    made = make_table("table9", table, [shelf], beside="panda", cohort="tiny")
    one = made.rows[0].compared
    assert (one.patients, one.few) == (8, True)
    paths = write_table_files(made, tmp_path, command="")
    told = json.loads(paths[1].read_text())["rows"][0]
    assert told["difference_auc"] == round(one.value, 5)
    assert {told[name] for name in ("difference_auc_low", "difference_auc_high", "p_auc", "p_holm_auc")} == {None}
    page = paths[2].read_text()
    assert f"| {one.value:+.1f} | - |" in page
    assert "in points; 8 patients are too few for intervals, which are told from 20 on.\n" in page
    assert "drawn with replacement" not in page
    assert told["compared_patients"] == 8
    enough = replace(made.rows[2], compared=replace(one, patients=20))
    both = replace(made, rows=(*made.rows[:2], enough))
    page = write_table_files(both, tmp_path, command="")[2].read_text()
    assert "in points, with its 95 % interval, patients drawn" in page
    assert "is not in it; 8 patients are too few for intervals, which are told from 20 on.\n" in page
