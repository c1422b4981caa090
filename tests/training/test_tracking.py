import csv
import json
import shlex
import sys

import pytest

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.errors import OptionError
from dtcwsi.training.crossval import cross_validate
from dtcwsi.training.tracking import Tracking

QUICK = {"model": "dtc-abmil", "folds": 2, "epochs": 3, "device": "cpu"}


def tracked(needle_cohort, tmp_path, *names):
    complaints = []
    tracking = Tracking(names, tmp_path / "run", complaints.append)
    record = cross_validate(needle_cohort(slides=12), out=tmp_path / "run", on_event=tracking.hear, **QUICK)
    assert record.complete
    return record, complaints


def history_of(fold):
    with (fold / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_tensorboard_shows_each_fold_s_epochs_its_options_and_its_test(needle_cohort, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record, complaints = tracked(needle_cohort, tmp_path, "tensorboard")
    assert complaints == []
    for fold in (0, 1):
        seen = EventAccumulator(str(tmp_path / "run" / "tensorboard" / f"fold{fold}")).Reload()
        wanted = history_of(record.folder / f"fold{fold}")
        for column in ("train_loss", "val_loss", "val_accuracy", "train_tokens_out"):
            found = seen.Scalars(column)
            assert [one.step for one in found] == [1, 2, 3]
            assert [one.value for one in found] == pytest.approx([float(row[column]) for row in wanted], rel=1e-5)
        told = json.loads((record.folder / f"fold{fold}" / "fold.json").read_text())["metrics"]["auc"]
        assert seen.Scalars("test_auc")[0].value == pytest.approx(told)
        assert "epochs: 3" in (tmp_path / "run" / "tensorboard" / f"fold{fold}" / "hparams.yaml").read_text()


def test_a_fold_that_is_trained_again_leaves_one_curve(needle_cohort, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record, _ = tracked(needle_cohort, tmp_path, "tensorboard")
    (record.folder / "fold1" / "fold.json").unlink()
    tracking = Tracking(["tensorboard"], record.folder, pytest.fail)
    cohort = read_cohort(tmp_path / "labels.csv", tmp_path / "features")
    cross_validate(cohort, out=record.folder, on_event=tracking.hear, **QUICK)
    seen = EventAccumulator(str(record.folder / "tensorboard" / "fold1")).Reload()
    assert [one.step for one in seen.Scalars("val_loss")] == [1, 2, 3]


def test_weights_and_biases_gets_a_run_a_fold(needle_cohort, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    record, complaints = tracked(needle_cohort, tmp_path, "wandb")
    assert complaints == []
    assert len(list((record.folder / "wandb").glob("offline-run-*/run-*.wandb"))) == 2


def test_mlflow_gets_a_run_a_fold(needle_cohort, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record, complaints = tracked(needle_cohort, tmp_path, "mlflow")
    assert complaints == []
    client = mlflow.MlflowClient(f"sqlite:///{record.folder / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "dtcwsi")
    runs = sorted(client.search_runs([experiment.experiment_id]), key=lambda one: one.info.run_name)
    assert [one.info.run_name for one in runs] == ["run-fold0", "run-fold1"]
    assert [one.info.status for one in runs] == ["FINISHED", "FINISHED"]
    losses = client.get_metric_history(runs[0].info.run_id, "val_loss")
    wanted = [float(row["val_loss"]) for row in history_of(record.folder / "fold0")]
    assert [one.value for one in sorted(losses, key=lambda one: one.step)] == pytest.approx(wanted)
    assert runs[0].data.params["epochs"] == "3"


def test_a_tracker_that_is_away_is_told_once_and_training_goes_on(needle_cohort, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record, complaints = tracked(needle_cohort, tmp_path, "mlflow", "tensorboard")
    (complaint,) = complaints
    assert complaint.startswith("mlflow is left out from here on: ")
    assert (record.folder / "tensorboard" / "fold1").is_dir()


def test_trackers_that_are_none_are_told(tmp_path, monkeypatch):
    with pytest.raises(OptionError, match="got track='tensorbord'; expected one of: mlflow, tensorboard, wandb"):
        Tracking(["tensorbord"], tmp_path, pytest.fail)
    monkeypatch.setattr("dtcwsi.training.tracking.find_spec", lambda name: None)
    with pytest.raises(OptionError, match="got track='wandb', which is not installed; run: pip install wandb"):
        Tracking(["wandb"], tmp_path, pytest.fail)


def test_a_run_tells_of_every_start_that_trained(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=12)

    def starts():
        cross_validate(cohort, out=tmp_path / "run", **QUICK)
        return json.loads((tmp_path / "run" / "environment.json").read_text())["starts"]

    (first,) = starts()
    assert first["command"] == shlex.join(sys.orig_argv)
    assert {"torch", "dtcwsi", "lightning"} <= first["packages"].keys()
    assert len(starts()) == 1
    (tmp_path / "run" / "fold0" / "fold.json").unlink()
    again = starts()
    assert again[0] == first
    assert len(again) == 2
