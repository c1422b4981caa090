import csv
import json

import pytest

from dtcwsi.benchmark.tables.claims import CLAIMS, Above, judge_claims
from dtcwsi.benchmark.tables.definitions import TABLES
from dtcwsi.cli.main import status_of
from dtcwsi.errors import UsageError

from .conftest import write_run


@pytest.fixture
def folder(tmp_path):
    """Tables 2 and 8 of runs whose predictions are written by hand: 30 patients, two classes."""
    (tmp_path / "runs").mkdir()
    for seed, (name, sureness) in enumerate({"r = 0.4": 3, "r = 0.3": 0.3, "r = 0.5": 3, "r = 1.0": -1}.items()):
        write_run(tmp_path / "runs" / name.replace(" ", ""), sureness, seed=seed)

    def row(name, **given):
        return {"row": name, "runs": [f"runs/{name.replace(' ', '')}"], "failed": "", **given}

    measured = {
        "r = 0.4": {"ours_gflop": 10.0, "ours_mil_gib": 0.9},
        "r = 1.0": {"ours_gflop": 50, "ours_mil_gib": 1.0},
    }
    two = [row(name, ours_mil_ms="not run", **told) for name, told in measured.items()]
    eight = [*(row(name) for name in ("r = 0.4", "r = 0.3", "r = 0.5")), {**row("r = 0.6"), "failed": "fold 1: lost"}]
    for number, rows in ((2, two), (8, eight)):
        (tmp_path / f"table{number}.json").write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_claims_are_judged_by_the_interval_of_runs_and_by_figures(folder):
    judged = {(one.table, one.text): one for one in judge_claims(folder)}
    assert len(judged) == len(CLAIMS)
    better = judged["table8", "r = 0.4 is better than r = 0.3"]
    assert better.verdict == "holds"
    assert 0 < better.low < better.value < better.high
    assert judged["table8", "r = 0.4 is better than r = 0.5"].verdict == "cannot be told"
    assert judged["table8", "r = 0.4 is better than r = 0.6"].verdict == "not run"
    assert judged["table2", "r = 0.4 is better than r = 1.0"].verdict == "holds"
    flops, memory = (
        judged["table2", text] for text in ("4.9 times fewer FLOPs at r = 0.4", "20 to 40 % less memory at r = 0.4")
    )
    assert (flops.verdict, flops.value) == ("holds", 5.0)
    assert (memory.verdict, memory.value) == ("does not hold", pytest.approx(0.1))
    assert judged["table2", "5.3 times faster, MIL alone"].verdict == "not run"
    assert {one.verdict for (table, _), one in judged.items() if table == "table1"} == {"not run"}
    tested = [one for one in judged.values() if one.p_holm is not None]
    assert len(tested) == 3
    assert better.p_holm == pytest.approx(3 * 2 / 5001)


def test_a_claim_that_is_the_other_way_round_does_not_hold(folder):
    told = json.loads((folder / "table8.json").read_text())
    first, second = told["rows"][:2]
    first["runs"], second["runs"] = second["runs"], first["runs"]
    (folder / "table8.json").write_text(json.dumps(told))
    judged = {one.text: one for one in judge_claims(folder) if one.table == "table8"}
    assert judged["r = 0.4 is better than r = 0.3"].verdict == "does not hold"


def test_every_claim_is_of_rows_that_its_table_has():
    for claim in CLAIMS:
        rows = (claim.better, claim.worse) if isinstance(claim, Above) else claim.rows
        assert set(rows) <= set(TABLES[claim.table].rows)


def test_the_command_writes_three_files_that_say_the_same(folder, capsys):
    assert status_of(["bench", "claims", "--out", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown == (folder / "claims.md").read_text()
    assert "| r = 0.4 is better than r = 0.3 | Appendix C: r = 0.4 is best | 8 | holds | auc | +" in shown
    with (folder / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == [
        one["verdict"] for one in json.loads((folder / "claims.json").read_text())["claims"]
    ]


def test_a_folder_without_tables_is_told(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"holds no table1.json to table8.json; make a table there first"):
        judge_claims(tmp_path)
    assert status_of(["bench", "claims", "--out", str(tmp_path), "--seeds", "2"]) == 2
    assert "claims are held against the tables in --out, and take nothing else" in capsys.readouterr().err
