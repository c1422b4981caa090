import csv
import json
import statistics
from dataclasses import replace

import pytest
import torch

from dtcwsi.aggregators.clam import ClamSb
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables.definitions import Configuration, Table
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.page import write_table_files
from dtcwsi.benchmark.tables.quick import cache_folder, quick_cohort
from dtcwsi.benchmark.tables.shelf import Protocol, Shelf

from .conftest import QUICK

PAPER = {"A": {"panda": {"acc": 91.2, "acc_std": 0.7, "auc": 92.1}}, "B": {"panda": {"acc": 80.0, "auc": 81.5}}}
ROWS = {"A": Configuration("mean"), "B": Configuration("random-mean", {"retention": 0.5})}
TABLE = Table("Two rows", ROWS, PAPER, columns={"A": {"r_1": "0.74"}}, remark="Nothing else.")


def make(shelf, table=TABLE, **given):
    return make_table("table9", table, [shelf], **{"beside": "panda", "cohort": "tiny", **given})


def test_rows_have_the_papers_numbers_beside_those_of_runs(shelf):
    made = make(shelf)
    assert made.complete
    assert str(made.uses[0]) == "12 slides of 8 patients"
    row = made.rows[0]
    assert (row.name, dict(row.paper), dict(row.columns)) == ("A", PAPER["A"]["panda"], {"r_1": "0.74"})
    metrics = json.loads((shelf.folder.parent / row.runs[0] / "metrics.json").read_text())["metrics"]
    assert row.ours == pytest.approx({"acc": 100 * metrics["accuracy"]["mean"], "auc": 100 * metrics["auc"]["mean"]})
    assert row.ours_std["auc"] == pytest.approx(100 * metrics["auc"]["std"])


def test_nothing_is_trained_twice_and_tables_share_runs(shelf):
    make(shelf)
    models = list(shelf.folder.rglob("model.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in models}
    other = Table("One row", {"C": ROWS["B"]}, {"C": {}})
    made = make(shelf, other)
    assert made.rows[0].runs[0].startswith("runs/random-mean-")
    assert {path: path.stat().st_mtime_ns for path in shelf.folder.rglob("model.safetensors")} == before


def test_a_folder_bears_all_that_made_its_run(shelf):
    places = {shelf.place(what, seed) for what in ROWS.values() for seed in (0, 1)}
    places |= {Shelf(shelf.folder, shelf.cohort, replace(QUICK, epochs=2)).place(ROWS["A"], 0)}
    relabelled = replace(shelf.cohort, slides=tuple(replace(one, label="x") for one in shelf.cohort.slides))
    places |= {Shelf(shelf.folder, relabelled, QUICK).place(ROWS["A"], 0)}
    assert len(places) == 6
    assert Shelf(shelf.folder, shelf.cohort, replace(QUICK, seeds=3)).place(ROWS["A"], 0) in places


def test_seeds_are_pooled_and_tokens_and_time_are_told(quick, tmp_path):
    shelf = Shelf(tmp_path / "runs", read_cohort(*quick), replace(QUICK, seeds=2))
    table = replace(TABLE, metrics=("acc", "tokens", "ms"))
    row = make(shelf, table).rows[1]
    assert len(row.runs) == 2
    told = [json.loads((tmp_path / run / "metrics.json").read_text()) for run in row.runs]
    assert row.ours["acc"] == pytest.approx(50 * sum(one["metrics"]["accuracy"]["mean"] for one in told))
    shares = [share for one in told for share in one["tokens"]["kept_share_by_fold"]]
    assert row.samples["tokens"] == {
        f"seed {seed}, fold {fold}": share
        for seed, one in enumerate(told)
        for fold, share in enumerate(one["tokens"]["kept_share_by_fold"])
    }
    assert row.ours["tokens"] == pytest.approx(sum(shares) / 4)
    assert row.ours["tokens"] == pytest.approx(sum(one["tokens"]["kept_share"] for one in told) / 2, abs=0.01)
    assert row.ours["ms"] == pytest.approx(
        500 * sum(one["seconds"]["compress"] + one["seconds"]["aggregate"] for one in told), rel=0.01
    )
    assert row.devices == ("cpu, 1 threads",)


def test_a_row_that_fails_does_not_end_the_others(shelf):
    rows = {"A": Configuration("mean", {"projection": -1}), "B": ROWS["B"]}
    made = make(shelf, replace(TABLE, rows=rows))
    assert not made.complete
    assert made.rows[0].failed == "got projection=-1; expected a whole number from 1 on"
    assert not made.rows[0].ours
    assert made.rows[1].ours


def test_files_say_the_same_in_three_ways(shelf):
    failing = replace(TABLE, rows={"A": ROWS["A"], "B": Configuration("mean", {"projection": -1})})
    made = make(shelf, failing)
    paths = write_table_files(made, shelf.folder.parent, command="dtcwsi bench table9")
    assert [path.name for path in paths] == ["table9.csv", "table9.json", "table9.md"]
    with paths[0].open(newline="") as file:
        first, second = csv.DictReader(file)
    told = json.loads(paths[1].read_text())
    assert (told["cohort"], told["beside"], told["slides"]) == ("tiny", "panda", 12)
    assert (first["paper_acc"], first["paper_acc_std"], first["r_1"], second["r_1"]) == ("91.2", "0.7", "0.74", "-")
    assert float(first["ours_acc"]) == told["rows"][0]["ours_acc"] == round(made.rows[0].ours["acc"], 3)
    assert first["ours_std"] == first["ours_acc_std"]
    assert first["runs"] == made.rows[0].runs[0]
    assert second["ours_acc"] == told["rows"][1]["ours_auc"] == "not run"
    page = paths[2].read_text()
    assert "Paper: PANDA." in page
    assert f"| A | 0.74 | 91.2 ± 0.7 | {made.rows[0].ours['acc']:.1f} ± " in page
    assert "| B | - | 80.0 | not run | 81.5 | not run |" in page
    assert "* B: got projection=-1" in page
    assert "Nothing else." in page
    part = replace(made.rows[0], finished="1 of 2", ours={"acc": 50.0}, ours_std={})
    page = write_table_files(replace(made, rows=(part, made.rows[1])), paths[0].parent, command="")[2].read_text()
    assert "| A | 0.74 | 91.2 ± 0.7 | 50.0 (1 of 2 folds) | 92.1 | not measured |" in page


def test_a_table_of_several_versions_says_so(shelf):
    made = make(shelf)
    (by,) = made.rows[0].trained_by
    assert by.endswith(f", torch {torch.__version__}")
    folder = made.rows[0].folders[0]
    told = json.loads((folder / "environment.json").read_text())
    earlier = {**told["starts"][0], "commit": "abc", "packages": {**told["starts"][0]["packages"], "torch": "2.0"}}
    (folder / "environment.json").write_text(json.dumps({"starts": [earlier, *told["starts"]]}))
    card = folder / "fold0" / "card.json"
    facts = json.loads(card.read_text())
    card.write_text(json.dumps({**facts, "versions": {**facts["versions"], "torch": "2.0"}}))
    paths = write_table_files(make(shelf), shelf.folder.parent, command="")
    page, rows = paths[2].read_text(), json.loads(paths[1].read_text())["rows"]
    both = sorted([by, "abc, torch 2.0"])
    assert f"Trained by 2 versions, which table9.json names row by row: {'; '.join(both)}." in page
    assert [row["trained_by"] for row in rows] == [both, [by]]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["versions"]["torch"] == f"2.0, {torch.__version__}"


def test_a_published_recipe_that_is_put_right_makes_another_run(quick, tmp_path, monkeypatch):
    def places(recipe):
        kept = Shelf(tmp_path / "runs", read_cohort(*quick), Protocol(recipe=recipe))
        return [kept.place(Configuration(model), 0) for model in ("clam-sb", "abmil")]

    before, common = places("published"), places("common")
    monkeypatch.setattr(ClamSb, "recipe", replace(ClamSb.recipe, class_weights="balanced"))
    after = places("published")
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)
    assert places("common") == common


def test_a_slide_is_measured_stage_by_stage_and_no_total_leaves_one_out(quick, tmp_path):
    metrics = ("acc", "epoch_s", "gflop", "cost_gflop", "mil_ms", "full_ms", "speedup", "full_gib")
    table = replace(TABLE, metrics=metrics, paper={"A": {"panda": {"full_ms": 410.0}}, "B": {}})
    cohort, known = read_cohort(*quick), {"read": 1e-5, "encode": 2e-3}
    told = make(Shelf(tmp_path / "runs", cohort, QUICK, known), table, patches=200)
    first, second = (row.ours for row in told.rows)
    assert first["read_ms"] == pytest.approx(2.0)
    assert first["encode_ms"] == pytest.approx(400)
    assert first["full_ms"] == pytest.approx(first["read_ms"] + first["encode_ms"] + first["mil_ms"])
    samples = told.rows[0].samples
    assert first["mil_ms"] == statistics.median(samples["mil_ms"].values())
    assert len(samples["mil_ms"]) == len(samples["full_ms"]) == len(samples["mil_gib"]) == 5
    assert second["speedup"] == pytest.approx(first["full_ms"] / second["full_ms"])
    assert second["gflop"] == pytest.approx(first["gflop"] / 2, rel=0.02)
    assert first["epoch_s"] > 0
    assert first["cost_gflop"] == pytest.approx(first["gflop"], rel=0.02)
    page = write_table_files(told, tmp_path, command="")[2].read_text()
    assert "Measured: one slide of 200 patches on cpu" in page
    assert "| ours MIL ms | paper full ms | ours full ms | ours speedup | ours full GiB |" in page
    alone = replace(table, rows={"A": ROWS["A"]})
    unknown = make(Shelf(tmp_path / "runs", cohort, QUICK), alone, patches=200).rows[0].ours
    assert {"full_ms", "read_ms", "encode_ms", "speedup"}.isdisjoint(unknown)
    assert unknown["mil_speedup"] == 1


def test_rows_of_features_that_are_not_there_are_not_run(shelf, tmp_path):
    table = replace(TABLE, encoders={"A": 0, "B": 1})
    made = make(shelf, table)
    assert made.complete
    assert made.rows[0].columns["encoder"] == "colour-texture"
    assert (dict(made.rows[1].ours), made.rows[1].runs) == ({}, ())
    both = make_table("table9", table, [shelf, shelf], beside="panda", cohort="tiny")
    assert both.rows[1].ours


def test_the_quick_cohort_is_made_once(quick):
    labels, features = quick
    before = {path: path.stat().st_mtime_ns for path in features.glob("*.h5")}
    assert len(before) == 12
    assert quick_cohort(labels.parent, slides=12) == quick
    assert {path: path.stat().st_mtime_ns for path in features.glob("*.h5")} == before


@pytest.mark.parametrize(
    ("own", "shared", "told"), [("/a", "/b", "/a"), ("", "/b", "/b/dtcwsi"), ("", "", "/home/x/.cache/dtcwsi")]
)
def test_the_cache_is_where_the_environment_says(monkeypatch, own, shared, told):
    for name, value in (("DTCWSI_CACHE", own), ("XDG_CACHE_HOME", shared), ("HOME", "/home/x")):
        monkeypatch.setenv(name, value)
    assert cache_folder().as_posix() == told
