import csv
import json
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from dtcwsi.catalog import model_options

from .conftest import write_bag


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
    assert metrics["options"] == {**model_options("abmil"), "gated": True}
    assert metrics["seed"] == 3
    assert metrics["folds"]["0"]["epochs"] == 1


def test_options_and_splits_can_be_searched_and_given_in_a_config(run, cohort, trained, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"splits: {trained}\nsearch: {{lam: '0:1'}}\ntrials: 2\nepochs: 1\n")
    where = ["--features", cohort / "features", "--labels", cohort / "labels.csv"]
    done = run("train", *where, "--config", config, "--search", "stages=1,2", "--out", tmp_path / "run")
    assert done.status == 0
    found = re.findall(r"^fold (\d): lam 0\.\d+, stages [12] \((.*)\)$", done.err, re.MULTILINE)
    assert found == [(fold, "of lam 0 to 1; stages 1 | 2; 2 trials by validation loss") for fold in "01"]
    assert len(re.findall(r"^fold \d trial [12]: .*validation loss", done.err, re.MULTILINE)) == 4
    given, own = ((folder / "fold1" / "split.csv").read_text() for folder in (tmp_path / "run", trained))
    assert given == own


def test_a_self_supervised_phase_comes_first_if_asked_for(run, cohort, tmp_path):
    small = ["--model", "dtc-spt", "--set", "width=16", "--set", "heads=2", "--folds", "2", "--epochs", "1"]
    done = train(run, cohort, tmp_path / "run", *small, "--pretrain-steps", "2")
    assert done.status == 0
    assert "fold 1: 2 self-supervised steps, loss " in done.err + done.out
    assert json.loads((tmp_path / "run" / "fold0" / "card.json").read_text())["recipe"]["pretrain_steps"] == 2
    config = tmp_path / "more.yaml"
    config.write_text("pretrain-steps: 3\n")
    done = train(run, cohort, tmp_path / "run", *small, "--config", config)
    assert done.status == 2
    assert "changed: pretrain_steps" in done.err


def test_the_same_command_again_trains_nothing(run, cohort, trained):
    weights = trained / "fold0/model.safetensors"
    before = weights.stat().st_mtime_ns
    done = train(run, cohort, trained, "--folds", "2", "--epochs", "12", "--model", "dtc-abmil")
    assert done.status == 0
    assert "fold 0 was finished earlier" in done.err
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_fold_whose_model_is_gone_is_trained_again(run, cohort, tmp_path, damage):
    arguments = (cohort, tmp_path / "run", "--folds", "2", "--epochs", "1")
    assert train(run, *arguments).status == 0
    weights = tmp_path / "run/fold1/model.safetensors"
    before = weights.read_bytes()
    damage(weights)
    done = train(run, *arguments)
    assert done.status == 0
    assert "fold 0 was finished earlier" in done.err
    assert "fold 1 was finished earlier" not in done.err
    assert weights.read_bytes() == before


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


def test_a_file_that_records_another_slide_is_told(run, cohort, tmp_path):
    features = shutil.copytree(cohort / "features", tmp_path / "features")
    with h5py.File(features / "s03.h5", "r+") as file:
        file.attrs["slide_id"] = "s05"
    options = ("--labels", cohort / "labels.csv", "--epochs", "1", "--folds", "2", "--model", "mean")
    done = run("train", "--features", features, *options, "--out", tmp_path / "run")
    assert "1 feature file records another slide than its name, which counts: s03 records s05" in done.err


def test_features_of_another_width_are_one_line_and_mixed_patients_another(run, cohort, tmp_path):
    features = tmp_path / "features"
    features.mkdir()
    for path in (cohort / "features").glob("*.h5"):
        (features / path.name).symlink_to(path)
    for name in ("s02", "s03"):
        (features / f"{name}.h5").unlink()
        write_bag(features / f"{name}.h5", np.zeros((3, 9)))
    labels = tmp_path / "labels.csv"
    labels.write_text((cohort / "labels.csv").read_text().replace("s00,a,p00", "s00,a,p01"))
    out = tmp_path / "run"
    done = run("train", "--features", features, "--labels", labels, "--out", out, "--folds", "2", "--epochs", "1")
    assert done.status == 1
    lines = done.err.splitlines()
    assert "2 slides left out, other features than most (width 9, most have 8); extract again: s02, s03" in lines
    assert "1 patient has slides of several classes: p01" in lines
    page = " ".join((out / "report.html").read_text(encoding="utf-8").split())
    assert "<dt>Patients with slides of several classes</dt><dd>p01</dd>" in page


def test_classes_that_differ_in_case_alone_are_told_of(run, cohort, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        (cohort / "labels.csv")
        .read_text()
        .replace("s00,a,", "s00,A,")
        .replace("s01,b,", "s01,B  2,")
        .replace("s03,b,", "s03,b 2,")
    )
    options = ("--labels", labels, "--out", tmp_path / "run", "--folds", "2", "--epochs", "1")
    done = run("train", "--features", cohort / "features", *options)
    for pair in ("'A', 'a'", "'B  2', 'b 2'"):
        told = f"2 classes, {pair}, differ in case or spaces alone; if they are one, write them alike in the labels"
        assert told in done.err.splitlines()


def test_a_class_that_nothing_validates_is_told_of(run, cohort, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "slide_id,label,fold\n" + "".join(f"s{n:02d},{'ab'[n in (1, 3)]},{n // 2 % 2}\n" for n in range(12))
    )
    done = train(run, cohort, tmp_path / "run", "--epochs", "1", labels=labels)
    assert done.status == 0
    assert "fold 0: 5 slides to train on, 1 to validate on, none of class b" in done.err


TABLES = {
    "unknown slides": ("slide_id,label\nx1,a\nx2,b\n", "none of the 2 slides"),
    "a slide twice": ("slide_id,label\ns00,a\ns00,b\n", "lists slide 's00' more than once"),
    "few patients": ("slide_id,label\ns00,a\ns01,b\ns02,a\ns04,a\ns06,a\ns08,a\n", "add slides of other patients"),
    "one class": ("slide_id,label\ns00,a\ns01,a\n", "expected two classes or more"),
    "no label": ("slide_id,label\ns00,NaN\ns01,b\n", "row 2 has no label"),
    "semicolons": ("slide_id;label\ns00;a\n", "separated by ';'; expected commas"),
    "no column": ("slide,label\ns00,a\n", "lacks the column 'slide_id'"),
    "empty": ("", "is empty; expected slide_id,label"),
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
        (["--set", "lam="], "got --set lam without a value; expected each option once, with its value"),
        (["--set", "lam=1", "--set", "lam=0"], "got --set lam twice; expected each option once"),
        (["--set", "lr=0.1"], "got --set lr; it is no option of a model but of train: --lr"),
        (["--set", "in_dim=3"], "takes no option 'in_dim' here; features and labels decide it"),
        (
            ["--set", "retention=0.3", "--retention", "0.4"],
            "got retention=0.4 and, among the options, 0.3; give one of",
        ),
        (["--model", "dtc-abmil", "--set", "stages=1000000000"], "expected a whole number from 1 to 2048"),
        (["--search", "lam"], "expected OPTION=VALUES, such as --search lam=0:1"),
        (["--search", "lam=1"], "got lam='1' to search; expected low:high"),
        (["--search", "lamm=0:1"], "has no option 'lamm' to search; near options: lam"),
        (["--trials", "3"], "got --trials without --search"),
        (["--class-weights", "rare"], "got class_weights='rare'; expected one of: balanced, none, sampled"),
        (["--group", "ward"], "got group='ward'; expected one of: patient, site"),
        (["--splits", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--retention", "1.5"], "expected a number above 0 and at most 1"),
        (["--epochs", "0"], "got epochs=0; expected a whole number from 1 on"),
        (["--folds", "1"], "got folds=1; expected a whole number from 2 on"),
        (["--seed", "-1"], "got seed=-1; expected a whole number from 0 to 4294967295"),
        (["--seed", str(2**32)], "expected a whole number from 0 to 4294967295"),
        (["--lr", "-1"], "got lr=-1.0; expected a number above 0"),
        (["--lr", "0"], "got lr=0.0; expected a number above 0"),
        (["--lr", "nan"], "got lr=nan; expected a number above 0"),
        (["--lr", "inf"], "got lr=inf; expected a number above 0"),
        (["--weight-decay", "-0.1"], "got weight_decay=-0.1; expected a number from 0 on"),
        (["--batch-size", "0"], "got batch_size=0; expected a whole number from 1 on"),
        (["--set", "gated=[1"], "got --set 'gated=[1'; expected a value as in YAML"),
        (["--set", "hidden=2020-13-45"], "expected a value as in YAML"),
        (["--set", "dropout=2.0"], "got dropout=2.0; expected a share from 0 to below 1"),
        (["--set", "hidden=0"], "got hidden=0; expected a whole number from 1 on"),
        (["--set", "projection=-3"], "got projection=-3; expected a whole number from 1 on"),
        (["--config", "nowhere.yaml"], "the config nowhere.yaml cannot be read"),
        (["--model", "abmil", "--pretrain-steps", "5"], "abmil has no self-supervised phase; spt has"),
        (["--pretrain-steps", "-1"], "got pretrain_steps=-1; expected a whole number from 0 on"),
        (["--track", "off"], "got track='off'; expected one of: mlflow, none, tensorboard, wandb"),
    ],
)
def test_bad_options_get_one_sentence(run, cohort, tmp_path, arguments, sentence):
    done = train(run, cohort, tmp_path / "run", *arguments)
    assert done.status == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_values_of_another_type_get_one_sentence(cohort, tmp_path):
    """In a process of its own, since here the shapes' checker would see the types first."""
    given = {
        "projection=abc": "error: got projection='abc'; expected a whole number from 1 on",
        "gated=maybe": "error: got gated='maybe'; expected true or false",
        "dropout=2": "error: got dropout=2; expected a share from 0 to below 1",
        "hidden=1.5": "error: got hidden=1.5; expected a whole number from 1 on",
    }
    arguments = ["train", "--features", str(cohort / "features"), "--labels", str(cohort / "labels.csv")]
    arguments += ["--out", str(tmp_path / "run"), "--set"]
    code = f"""
from dtcwsi.cli.main import status_of
assert [status_of([*{arguments}, pair]) for pair in {list(given)}] == [2] * {len(given)}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines() == list(given.values())
    assert done.returncode == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr: high\n", "has lr='high'; expected a number"),
        ('folds: "2.5"\n', "has folds='2.5'; expected a whole number"),
        ("epochs: 2.0\n", "has epochs=2.0; expected a whole number"),
        ("lr: [1]\n", "has lr=[1]; expected a number"),
        ("seed: true\n", "has seed=True; expected a whole number"),
        ("folds: 1\n", "got folds=1; expected a whole number from 2 on"),
        ("set: [a]\n", "has set=['a']; expected options such as 'set: {lam: 0.7}'"),
        ("set:\n", "gives no value for 'set'; fill it in or take the line out"),
        ("model: 3\n", "has model=3; expected text"),
        ("seed: 2020-13-45\n", "cannot be read"),
        ("- lr\n", "holds list; expected options"),
    ],
)
def test_a_bad_config_gets_one_sentence(run, cohort, tmp_path, text, sentence):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    done = train(run, cohort, tmp_path / "run", "--config", config)
    assert done.status == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_config_may_write_numbers_as_text(run, cohort, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text('lr: 1e-3\nfolds: "2"\nepochs: 1\nmodel: mean\n')
    assert train(run, cohort, tmp_path / "run", "--config", config).status == 0
    settings = json.loads((tmp_path / "run/settings.json").read_text(encoding="utf-8"))
    assert settings["lr"] == 0.001
    assert {row[3] for row in settings["slides"]} == {0, 1}


def test_two_patients_a_class_are_too_few_for_two_folds(run, cohort, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\ns00,a\ns01,b\ns02,a\ns03,b\n")
    done = train(run, cohort, tmp_path / "run", "--folds", "2", labels=labels)
    assert done.status == 2
    assert "no patient to validate on" in done.err
    assert "2 folds take 4 patients of a class or more" in done.err
    assert not (tmp_path / "run").exists()
