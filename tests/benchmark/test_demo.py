import csv
import json

import pytest

from dtcwsi.cli.main import status_of


@pytest.mark.slow
def test_the_smoke_demo_makes_all_it_promises_and_resumes(tmp_path, capsys):
    assert status_of(["demo", "--smoke", "--out", str(tmp_path)]) == 0
    for name in ("report.html", "labels.csv", "slides.csv", "predictions.csv", "demo.json"):
        assert (tmp_path / name).is_file()
    for model in ("mean", "abmil", "dtc-abmil"):
        assert (tmp_path / "runs" / model / "metrics.json").is_file()
        assert (tmp_path / "runs" / model / "report.html").is_file()
    assert len(list((tmp_path / "slides").glob("*.tif"))) == 12
    with (tmp_path / "predictions.csv").open(newline="") as file:
        new = list(csv.DictReader(file))
    with (tmp_path / "labels.csv").open(newline="") as file:
        known = {row["slide_id"] for row in csv.DictReader(file)}
    assert new
    assert not known & {row["slide_id"] for row in new}
    tokens = json.loads((tmp_path / "runs/dtc-abmil/metrics.json").read_text())["tokens"]
    assert 0.38 < tokens["kept_share"] < 0.48
    features = sorted((tmp_path / "features/colour-texture").glob("*.h5"))
    weights = tmp_path / "runs/dtc-abmil/fold0/model.safetensors"
    before = [path.stat().st_mtime_ns for path in (*features, weights)]
    assert status_of(["demo", "--smoke", "--out", str(tmp_path)]) == 0
    assert [path.stat().st_mtime_ns for path in (*features, weights)] == before
    capsys.readouterr()


def test_what_cannot_end_well_is_refused_before_anything_is_drawn(tmp_path, capsys):
    assert status_of(["demo", "--slides", "4", "--out", str(tmp_path / "few")]) == 2
    assert "use fewer folds, add slides of other patients" in capsys.readouterr().err
    assert not (tmp_path / "few").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "demo-settings.json").write_text('{"seed": 7}')
    assert status_of(["demo", "--smoke", "--out", str(other)]) == 2
    assert "holds a demo of other settings" in capsys.readouterr().err
    assert not (other / "slides").exists()
