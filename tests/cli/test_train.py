import csv
import json

import pytest


def train(run, cohort, out, *more, labels=None):
    labels = labels or cohort / "labels.csv"
    return run("train", "--features", cohort / "features", "--labels", labels, "--out", out, *more)


def test_a_run_folder_has_everything(cohort, trained):
    for fold in ("fold0", "fold1"):
        for name in ("model.safetensors", "card.json", "split.csv"):
            assert (trained / fold / name).is_file()
    with (trained / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert set(rows[0]) == {"slide_id", "label", "fold", "prediction", "prob_a", "prob_b"}
    with (trained / "folds.csv").open(newline="") as file:
        folds = list(csv.DictReader(file))
    of_patient = {}
    for row in folds:
        of_patient.setdefault(row["patient_id"], set()).add(row["fold"])
    assert len(folds) == 20
    assert all(len(found) == 1 for found in of_patient.values())
    assert (trained / "report.html").read_text().count("dtc-abmil") > 1


def test_config_gives_options_and_flags_win(run, cohort, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("folds: 2\nepochs: 2\nmodel: abmil\nseed: 3\nset: {gated: true}\n")
    done = train(run, cohort, tmp_path / "run", "--config", config, "--epochs", "1", "--json")
    assert done.status == 0
    metrics = json.loads(done.out)
    assert metrics["model"] == "abmil"
    assert metrics["options"] == {"gated": True}
    assert metrics["seed"] == 3
    assert metrics["folds"]["0"]["epochs"] == 1


def test_the_same_command_again_trains_nothing(run, cohort, trained):
    weights = trained / "fold0/model.safetensors"
    before = weights.stat().st_mtime_ns
    done = train(run, cohort, trained, "--folds", "2", "--epochs", "12", "--model", "dtc-abmil")
    assert done.status == 0
    assert "fold 0 was finished earlier" in done.err
    assert weights.stat().st_mtime_ns == before


def test_other_settings_need_another_folder(run, cohort, trained):
    done = train(run, cohort, trained, "--folds", "2", "--epochs", "13", "--model", "dtc-abmil")
    assert done.status == 2
    assert "is a run of other settings (changed: epochs); use a new folder" in done.err


def test_a_damaged_feature_file_is_left_out_and_the_rest_is_trained(run, cohort, tmp_path):
    features = tmp_path / "features"
    features.mkdir()
    for path in (cohort / "features").glob("*.h5"):
        (features / path.name).write_bytes(path.read_bytes())
    (features / "s03.h5").write_bytes(b"broken")
    arguments = ("--features", features, "--labels", cohort / "labels.csv", "--out", tmp_path / "run")
    done = run("train", *arguments, "--folds", "2", "--epochs", "1")
    assert done.status == 1
    assert "s03.h5 is not a whole HDF5 file" in done.err
    assert len((tmp_path / "run/predictions.csv").read_text().splitlines()) == 20


TABLES = {
    "unknown slides": ("slide_id,label\nx1,a\nx2,b\n", "none of the 2 slides"),
    "a slide twice": ("slide_id,label\ns00,a\ns00,b\n", "lists slide 's00' more than once"),
    "few patients": ("slide_id,label\ns00,a\ns01,b\ns02,a\ns04,a\ns06,a\ns08,a\n", "fewer folds"),
    "one class": ("slide_id,label\ns00,a\ns01,a\n", "expected two classes or more"),
    "no label": ("slide_id,label\ns00,NaN\ns01,b\n", "row 2 has no label"),
    "semicolons": ("slide_id;label\ns00;a\n", "separated by ';'; expected commas"),
    "no column": ("slide,label\ns00,a\n", "lacks the column 'slide_id'"),
    "empty": ("", "is empty; expected a header slide_id,label"),
    "no row": ("slide_id,label\n", "has a header and no row"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_labels_table_gets_one_sentence(run, cohort, tmp_path, name):
    text, sentence = TABLES[name]
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    done = train(run, cohort, tmp_path / "run", labels=labels)
    assert done.status == 2
    *notes, error = done.err.strip().splitlines()
    assert error.startswith("error: ")
    assert sentence in error
    assert len(notes) <= 1
    assert not (tmp_path / "run").exists()


def test_a_byte_order_mark_is_no_error(run, cohort, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("\ufeff" + (cohort / "labels.csv").read_text(), encoding="utf-8")
    assert train(run, cohort, tmp_path / "run", "--folds", "2", "--epochs", "1", labels=labels).status == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "dtc-abmill"], "no model is called 'dtc-abmill'; near names: dtc-abmil"),
        (["--model", "abmil", "--retention", "0.4"], "use 'dtc-abmil'"),
        (["--set", "lamm=0.3"], "near options: lam"),
        (["--set", "lam"], "expected OPTION=VALUE"),
        (["--retention", "1.5"], "expected a share above 0 and at most 1"),
        (["--epochs", "0"], "got epochs=0; expected a whole number from 1 on"),
        (["--folds", "1"], "got 1 folds; expected 2 or more"),
        (["--config", "nowhere.yaml"], "the config nowhere.yaml cannot be read"),
    ],
)
def test_bad_options_get_one_sentence(run, cohort, tmp_path, arguments, sentence):
    done = train(run, cohort, tmp_path / "run", *arguments)
    assert done.status == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
