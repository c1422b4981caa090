import csv
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from dtcwsi.benchmark.tables import claims, comparing
from dtcwsi.benchmark.tables.claims import CLAIMS, Falling, judge_claims
from dtcwsi.benchmark.tables.definitions import TABLES
from dtcwsi.benchmark.tables.ratios import multiple_of
from dtcwsi.cli.main import status_of
from dtcwsi.errors import UsageError

from .conftest import write_run


@pytest.fixture
def folder(tmp_path):
    """Tables 2, 5 and 8 of runs whose predictions are written by hand: 30 patients, two classes."""
    (tmp_path / "runs").mkdir()
    for seed, (name, sureness) in enumerate({"r=0.4": 8, "r=0.3": 0.3, "r=0.5": 8, "r=0.6": -8, "r=1.0": 1}.items()):
        write_run(tmp_path / "runs" / name, sureness, seed=seed)
    shutil.copytree(tmp_path / "runs" / "r=0.4", tmp_path / "runs" / "same")

    def row(name, run=None, trainings=3, **given):
        return {"row": name, "runs": [f"runs/{run or name.replace(' ', '')}"] * trainings, "failed": "", **given}

    figures = {"r = 1.0": (50, 1.0), "r = 0.7": (20, 0.7), "r = 0.5": (30, 0.95), "r = 0.4": (10.0, 0.9)}
    two = [
        row(name, "same", ours_gflop=gflop, ours_mil_gib=gib, ours_mil_ms="not run")
        for name, (gflop, gib) in figures.items()
    ]
    five = [row("Uniform", "same"), row("Balanced", "r=0.4"), row("2-stage only", "r=0.3")]
    eight = [*(row(name) for name in ("r = 0.4", "r = 0.3", "r = 0.5", "r = 0.8")), row("r = 0.6")]
    eight[3]["failed"] = "fold 1: lost"
    protocol = {"recipe": "published", "seeds": 3, "epochs": 20}
    for number, rows in ((2, two), (5, five), (8, eight)):
        told = {"rows": rows, "cohort": "tiny", "slides": 60, "patients": 30, "protocol": protocol}
        (tmp_path / f"table{number}.json").write_text(json.dumps(told))
    return tmp_path


def judged_in(folder):
    return {(one.table, one.text): one for one in judge_claims(folder).judged}


def test_differences_are_judged_by_the_interval_of_runs(folder):
    judged = judged_in(folder)
    assert len(judged) == len(CLAIMS)
    drop = judged["table8", "r = 0.4 over r = 0.3"]
    assert (drop.verdict, drop.claimed, drop.of) == ("holds", "> 5", "accuracy")
    assert 5 < drop.low < drop.value < drop.high
    rise = judged["table8", "r = 0.5 over r = 0.6"]
    assert rise.verdict == "holds"
    assert judged["table8", "r = 0.4 over r = 0.5"].verdict == "cannot be told"
    assert [judged["table8", f"r = 0.4 over {row}"].reason for row in ("r = 0.8", "r = 0.7")] == [
        "r = 0.8 failed",
        "no row r = 0.7",
    ]
    least = min(one.p_holm for one in judged.values() if one.p_holm is not None)
    assert least == pytest.approx(7 * 2 / 5001)  # of seven pairs of runs
    assert {one.reason for (table, _), one in judged.items() if table == "table1"} == {"no such table"}


def test_likeness_holds_within_what_was_claimed(folder):
    alike = judged_in(folder)["table5", "Uniform and Balanced are alike"]
    assert (alike.verdict, alike.claimed, alike.value) == ("cannot be told", "within 1", 0)  # of 30 patients
    for seed, (name, sureness) in enumerate({"r=0.4": 8, "r=0.3": 0.3}.items()):
        shutil.rmtree(folder / "runs" / name)
        write_run(folder / "runs" / name, sureness, seed=seed, slides=1000)
    shutil.rmtree(folder / "runs" / "same")
    shutil.copytree(folder / "runs" / "r=0.4", folder / "runs" / "same")
    judged = judged_in(folder)
    assert judged["table5", "Uniform and Balanced are alike"].verdict == "holds"
    assert judged["table5", "Uniform and 2-stage only are alike"].verdict == "does not hold"


def test_figures_are_judged_by_what_was_claimed(folder):
    judged = judged_in(folder)
    flops, memory = judged["table2", "FLOPs at r = 0.4"], judged["table2", "memory at r = 0.4, 20 % less"]
    assert (flops.verdict, flops.value, flops.claimed) == ("holds", 5.0, ">= 4.87 times")
    assert (memory.verdict, memory.value) == ("does not hold", pytest.approx(1 / 0.9))
    assert judged["table2", "time of the MIL part at r = 0.4"].reason == "not measured"
    falls = judged["table2", "FLOPs fall with r"]
    assert (falls.verdict, falls.value) == ("does not hold", 1.5)


def with_samples(folder, table, **columns):
    """Give rows of a table the values behind a column, a list a row in their order."""
    told = json.loads((folder / f"{table}.json").read_text())
    for row in told["rows"]:
        row["samples"] = {}
    for column, samples in columns.items():
        for row, values in zip(told["rows"], samples, strict=True):
            row["samples"][column] = {f"process {number}": value for number, value in enumerate(values)}
            row[f"ours_{column}"] = sorted(values)[len(values) // 2]
    (folder / f"{table}.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("slowest", "verdict"), [(2.0, "does not hold"), (8.0, "holds"), (5.2, "cannot be told")], ids=str
)
def test_multiples_of_what_was_measured_again_have_intervals(folder, slowest, verdict):
    whole = [[slowest * (10 + step) for step in (-2, -1, 0, 1, 2)], [50.0] * 5, [50.0] * 5, [10.0, 10, 10, 10, 10.1]]
    with_samples(folder, "table2", full_ms=whole)
    found = judged_in(folder)["table2", "time of all stages at r = 0.4"]
    assert (found.verdict, found.p_holm) == (verdict, None)
    assert found.low < found.value < found.high
    assert "] | full_ms | " in claims._page(judge_claims(folder), "x")


def test_a_fall_is_told_by_every_step(folder):
    steady = [9.0, 10, 11, 10, 10]
    with_samples(folder, "table2", mil_ms=[[4 * x for x in steady], [3 * x for x in steady], steady, steady])
    found = judged_in(folder)["table2", "time falls with r"]
    assert (found.verdict, found.value) == ("cannot be told", 1)
    assert found.low < 1 < found.high
    with_samples(folder, "table2", mil_ms=[[4 * x for x in steady], [3 * x for x in steady], [20.0] * 5, steady])
    assert judged_in(folder)["table2", "time falls with r"].verdict == "holds"
    with_samples(folder, "table2", mil_ms=[steady, [3 * x for x in steady], [20.0] * 5, steady])
    assert judged_in(folder)["table2", "time falls with r"].verdict == "does not hold"


def test_few_values_tell_nothing(folder):
    with_samples(folder, "table2", full_ms=[[40.0] * 4] * 4)
    found = judged_in(folder)["table2", "time of all stages at r = 0.4"]
    assert (found.verdict, found.reason, found.value, found.low) == ("cannot be told", "4 values are too few", 1, None)


def test_folds_are_taken_in_pairs_and_processes_are_not():
    def samples(values, kind="seed 0, fold"):
        return {f"{kind} {number}": value for number, value in enumerate(values)}

    one = [1.0, 2, 4, 8, 16]
    paired = multiple_of(samples(one), samples([3 * x for x in one]))
    assert (paired.low, paired.value, paired.high) == pytest.approx((3, 3, 3))
    apart = multiple_of(samples(one, "process"), samples([3 * x for x in one], "process"))
    assert apart.value == pytest.approx(3)
    assert apart.low < 1 < 9 < apart.high
    assert multiple_of(samples(one), {f"seed 1, fold {number}": 1.0 for number in range(5)}) is None
    assert multiple_of(samples(one), samples([0.0, *one[1:]])) is None


def test_the_interval_of_folds_is_that_of_the_corrected_t():
    steps = np.log([1.1, 1.2, 1.3, 1.15, 1.25])
    one = {f"seed 0, fold {number}": 1.0 for number in range(5)}
    found = multiple_of(one, {name: float(np.exp(step)) for name, step in zip(one, steps, strict=True)})
    reach = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * steps.var(ddof=1))
    assert np.log([found.low, found.value, found.high]) == pytest.approx(steps.mean() + np.array([-reach, 0, reach]))


@pytest.mark.parametrize(("trainings", "reason"), [(1, "one training each"), (2, "two trainings each")])
def test_models_that_were_trained_once_or_twice_tell_nothing(folder, trainings, reason):
    told = json.loads((folder / "table8.json").read_text())
    for row in told["rows"]:
        row["runs"] = row["runs"][:trainings]
    (folder / "table8.json").write_text(json.dumps(told))
    drop = judged_in(folder)["table8", "r = 0.4 over r = 0.3"]
    assert (drop.verdict, drop.reason, drop.p_holm) == ("cannot be told", reason, None)


def test_a_claim_above_a_row_without_room_cannot_be_told(folder):
    told = json.loads((folder / "table8.json").read_text())
    next(row for row in told["rows"] if row["row"] == "r = 0.3")["ours_acc"] = 96.5
    (folder / "table8.json").write_text(json.dumps(told))
    drop = judged_in(folder)["table8", "r = 0.4 over r = 0.3"]
    assert (drop.verdict, drop.reason) == ("cannot be told", "r = 0.3 has 96.5, which leaves no room")
    assert drop.low > 5


def test_seconds_of_unlike_devices_are_not_set_against_each_other(folder):
    rows = [
        {"row": row, "runs": ["runs/same"], "failed": "", "ours_ms": 2.0, "ours_tokens": 0.4, "devices": [device]}
        for row, device in (("with it", "cpu, 2 threads"), ("without the sparsity loss", "cpu, 1 threads"))
    ]
    (folder / "table7.json").write_text(json.dumps({"rows": rows}))
    judged = judged_in(folder)
    found = judged["table7", "time with the sparsity loss"]
    assert (found.verdict, found.reason) == ("cannot be told", "trained on unlike devices")
    assert judged["table7", "tokens with the sparsity loss"].verdict == "does not hold"


def test_a_pair_of_runs_counts_once_among_p_values(folder):
    judged = judged_in(folder)
    alike = judged["table5", "Uniform and 2-stage only are alike"]
    assert alike.p_holm is None
    better = judged["table5", "Uniform over 2-stage only"]
    told = json.loads((folder / "table5.json").read_text())
    told["rows"][0]["runs"] = ["runs/r=0.4"] * 3
    (folder / "table5.json").write_text(json.dumps(told))
    now = judged_in(folder)["table5", "Uniform over 2-stage only"]  # the same runs as r = 0.4 over r = 0.3 of table 8
    assert (now.value, now.p_holm) == (better.value, pytest.approx(better.p_holm * 6 / 7))


def test_of_few_patients_no_difference_is_told(folder, monkeypatch):
    monkeypatch.setattr(comparing, "FEW_PATIENTS", 31)
    drop = judged_in(folder)["table8", "r = 0.4 over r = 0.3"]
    assert (drop.verdict, drop.reason) == ("cannot be told", "30 patients are too few")
    assert drop.value > 5
    assert (drop.low, drop.high, drop.p_holm) == (None, None, None)


def test_nothing_is_a_multiple_of_nothing(folder):
    told = json.loads((folder / "table2.json").read_text())
    next(row for row in told["rows"] if row["row"] == "r = 0.4")["ours_gflop"] = 0.0
    (folder / "table2.json").write_text(json.dumps(told))
    flops = judged_in(folder)["table2", "FLOPs at r = 0.4"]
    assert (flops.verdict, flops.reason, flops.value) == ("cannot be told", "r = 0.4 has 0", None)


def test_a_claim_that_is_the_other_way_round_does_not_hold(folder):
    told = json.loads((folder / "table8.json").read_text())
    first, second = told["rows"][:2]
    first["runs"], second["runs"] = second["runs"], first["runs"]
    (folder / "table8.json").write_text(json.dumps(told))
    assert judged_in(folder)["table8", "r = 0.4 over r = 0.3"].verdict == "does not hold"


def test_every_claim_is_of_rows_that_its_table_has_and_told_apart():
    for claim in CLAIMS:
        rows = claim.rows if isinstance(claim, Falling) else (claim.one, claim.other)
        assert set(rows) <= set(TABLES[claim.table].rows)
    assert len({(claim.table, claim.text) for claim in CLAIMS}) == len(CLAIMS)


def test_the_command_writes_three_files_that_say_the_same(folder, capsys):
    assert status_of(["bench", "claims", "--out", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown == (folder / "claims.md").read_text()
    assert "* Table 8: tiny, 60 slides of 30 patients, published recipe, 20 epochs at most, seeds: 3\n" in shown
    assert "| r = 0.4 over r = 0.3 | Appendix B: a sharp drop | 8 | > 5 | +" in shown
    assert "| not run (r = 0.8 failed) |" in shown
    with (folder / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = json.loads((folder / "claims.json").read_text())["claims"]
    assert [row["verdict"] for row in rows] == [one["verdict"] for one in told]


def test_run_folders_that_are_gone_are_told(folder):
    shutil.rmtree(folder / "runs" / "r=0.3")
    assert judged_in(folder)["table8", "r = 0.4 over r = 0.3"].reason == "run folders are gone"


@pytest.mark.parametrize("text", ["{}", '{"rows": [', "[]", '{"rows": [{"row": "A"}]}'])
def test_files_that_are_no_tables_are_told(folder, text):
    (folder / "table8.json").write_text(text)
    with pytest.raises(
        UsageError, match=r"table8.json is no table of `dtcwsi bench` \(.*make it again or move it away"
    ):
        judge_claims(folder)


def test_a_folder_without_tables_is_told(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"holds no table1.json to table8.json; make a table there first"):
        judge_claims(tmp_path)
    for given in (["--seeds", "2"], ["--folds", "0"], ["--beside", "panda"]):
        assert status_of(["bench", "claims", "--out", str(tmp_path), *given]) == 2
        assert "claims are held against the tables in --out, and take nothing else" in capsys.readouterr().err
