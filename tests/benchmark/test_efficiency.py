import csv
import json

import pytest

from dtcwsi.benchmark.efficiency import Cost, write_costs
from dtcwsi.benchmark.measuring import Measured
from dtcwsi.cli.main import status_of


@pytest.mark.slow
def test_models_are_measured_over_sizes_and_the_powers_fitted(tmp_path, capsys):
    given = ["efficiency", "--model", "abmil", "--model", "dtc-abmil", "--patches", "5000", "--patches", "20000"]
    assert status_of(["bench", *given, "--out", str(tmp_path), "--device", "cpu"]) == 0
    with (tmp_path / "efficiency.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["patches"]) for row in rows] == [
        ("abmil", "5000"),
        ("abmil", "20000"),
        ("dtc-abmil", "5000"),
        ("dtc-abmil", "20000"),
    ]
    for row in rows:
        assert float(row["mil_ms"]) >= max(float(row["compress_ms"]), float(row["aggregate_ms"]))
        assert float(row["gflop"]) > 0
    assert float(rows[1]["gflop"]) == pytest.approx(4 * float(rows[0]["gflop"]), rel=0.01)
    assert float(rows[3]["gflop"]) < float(rows[1]["gflop"])
    told = json.loads((tmp_path / "efficiency.json").read_text())
    assert set(told["exponents"]) == {"abmil", "dtc-abmil"}
    assert "Time grows with this power of the patches" in capsys.readouterr().out


def test_the_power_is_that_of_times_and_what_failed_is_told(tmp_path):
    costs = [
        Cost("abmil", size, Measured(0.0, size**1.5, size**1.5, 1.0, None, 0.0)) for size in (1000, 10_000, 100_000)
    ]
    assert Cost("abmil", 1, Measured(1.0, 2.0, 3.5, 1.0, None, 0.0)).mil_ms == 3.5
    costs.append(Cost("transmil", 10_000, None, "out of memory"))
    page = write_costs(costs, tmp_path, facts="512 features", command="dtcwsi bench efficiency")[2].read_text()
    assert "from 5,000 on: abmil 1.50." in page
    assert "| transmil | 10,000 | out of memory |" in page
    assert "| abmil | 1,000 | 0.0 | 31622.8 | 31622.8 | 1.00 | n/a |" in page


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["efficiency", "--quick"], "efficiency trains nothing, its slides are random features"),
        (["efficiency", "--folds", "2"], "it takes --model, --patches and --device"),
        (["table1", "--quick", "--jobs", "2", "--devices", "2"], "got --devices and --jobs; expected one"),
        (["efficiency", "--model", "abmill"], "no model is called 'abmill'; near names: abmil"),
        (["table2", "--quick", "--patches", "5", "--patches", "6"], "table2 takes one --patches and no --model"),
        (["table2", "--quick", "--model", "abmil"], "table2 takes one --patches and no --model"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, capsys, given, told):
    assert status_of(["bench", *given, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
