import csv
import inspect
import json

import pytest

from dtcwsi.cli import bench, train


def test_a_table_is_made_of_ones_own_cohort_and_again_from_its_runs(run, cohort, tmp_path):
    given = ["bench", "table4", "--cohort", cohort / "labels.csv", "--features", cohort / "features"]
    given += ["--folds", "2", "--epochs", "1", "--beside", "panda", "--out", tmp_path]
    done = run(*given)
    assert done.status == 0
    assert "| Random Merging | 91.6 | " in done.out
    assert done.out == (tmp_path / "table4.md").read_text()
    assert done.err.count("fold 0: AUC") == 5
    again = run(*given, "--json")
    assert "AUC" not in again.err
    assert json.loads(again.out) == {
        "complete": True,
        "files": [str(tmp_path / f"table4.{suffix}") for suffix in ("csv", "json", "md")],
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table44", "--quick"], "got TABLE='table44'; expected one of: claims, efficiency, table1"),
        (["table4"], "expected --cohort CSV with --features DIR, --cohort NAME"),
        (
            ["table4", "--cohort", "a.csv"],
            "got cohort='a.csv'; expected one of: cells, demo, elephant, fox",
        ),
        (["table4", "--cohort", __file__], "expected --cohort CSV with --features DIR, --cohort NAME"),
        (["table4", "--quick", "--cohort", "a.csv"], "expected --cohort CSV with --features DIR, --cohort NAME"),
        (["table4", "--quick", "--from", "a"], "with --from if it is made from something"),
        (
            ["table4", "--cohort", "tissue"],
            "the cohort tissue is made from a folder with lung_n",
        ),
        (["table4", "--cohort", "needle", "--from", "a"], "the cohort needle is drawn and takes no --from"),
        (["table4", "--cohort", "fox", "--from", "nowhere.npz"], "nowhere.npz does not exist; expected fox.npz"),
        (["table4", "--quick", "--beside", "lung"], "got beside='lung'; expected one of"),
        (["table4", "--quick", "--recipe", "own"], "got recipe='own'; expected one of"),
        (["table4", "--quick", "--folds", "1"], "got folds=1; expected a whole number from 2 on"),
        (["table4", "--quick", "--group", "ward"], "got group='ward'; expected one of: patient, site"),
        (["table4", "--quick", "--max-tokens", "0"], "got max_tokens=0; expected a whole number from 1 on"),
        (["table4", "--quick", "--splits", "a.csv", "--folds", "3"], "got split files together with folds or group"),
        (["table4", "--quick", "--epochs", "0"], "got epochs=0; expected a whole number from 1 on"),
        (
            ["table4", "--cohort", __file__, "--features", "a", "--features", "b"],
            "got 2 feature folders; table4 takes 1",
        ),
        (["table4", "--cohort", "nsclc", "--features", "no"], "got --features and --cohort nsclc, which is no file"),
    ],
)
def test_what_cannot_be_made_is_told(run, tmp_path, arguments, sentence):
    done = run("bench", *arguments, "--out", tmp_path / "out")
    assert done.status == 2
    assert sentence in done.err


def test_a_cohort_that_cannot_be_split_is_told_once_before_any_work(run, cohort, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\ns00,a\ns01,b\ns02,a\n")
    done = run("bench", "table4", "--cohort", labels, "--features", cohort / "features", "--out", tmp_path / "out")
    assert done.status == 2
    assert done.err.count("class 'a' has 2 patients; expected at least 5") == 1
    assert not (tmp_path / "out").exists()


def test_options_of_training_are_those_of_train():
    """The very same definitions, so that one cannot drift from the other."""
    of_bench, of_train = (inspect.signature(command.run).parameters for command in (bench, train))
    for name in ("folds", "splits", "group", "recipe", "epochs", "batch_size", "class_weights", "max_tokens"):
        assert of_bench[name].annotation is of_train[name].annotation


def test_partitions_of_files_and_whole_sites_are_protocols_too(run, cohort, trained, tmp_path):
    where = ["bench", "table7", "--features", cohort / "features", "--epochs", "1"]
    done = run(*where, "--cohort", cohort / "labels.csv", "--splits", trained, "--out", tmp_path / "given")
    assert done.status == 0
    assert f"the partitions of {trained}, one seed" in done.out
    for split in (tmp_path / "given").glob("runs/*/fold1/split.csv"):
        assert split.read_text() == (trained / "fold1" / "split.csv").read_text()
    labels = tmp_path / "labels.csv"
    rows = (cohort / "labels.csv").read_text().splitlines()
    labels.write_text("\n".join([f"{rows[0]},site", *(f"{row},h{row.split('p')[1][-2:]}" for row in rows[1:])]))
    more = ["--group", "site", "--folds", "2", "--max-tokens", "60", "--out", tmp_path / "sites"]
    more += ["--batch-size", "3", "--class-weights", "balanced"]
    done = run(*where, "--cohort", labels, *more)
    assert done.status == 0
    assert (
        "2 folds, whole sites, one seed, the common recipe, 1 epochs at most, batches of 3 slides, classes" in done.out
    )
    assert json.loads((tmp_path / "sites" / "table7.json").read_text())["protocol"]["max_tokens"] == 60
    for settings in (tmp_path / "sites").glob("runs/*/settings.json"):
        told = json.loads(settings.read_text())
        assert (told["group"], told["batch_size"], told["class_weights"]) == ("site", 3, "balanced")


def test_a_slide_that_is_refused_makes_the_status_one(run, cohort, tmp_path):
    features = tmp_path / "features"
    features.mkdir()
    for path in (cohort / "features").glob("*.h5"):
        (features / path.name).symlink_to(path)
    (features / "s03.h5").unlink()
    (features / "s03.h5").write_bytes(b"broken")
    done = run(
        *["bench", "table7", "--cohort", cohort / "labels.csv", "--features", features],
        *["--folds", "2", "--epochs", "1", "--out", tmp_path / "out"],
    )
    assert done.status == 1
    assert "19 of 20 slides used (1 refused), of 16 patients" in done.out
    assert "Refused: s03: " in done.out
    with (tmp_path / "out" / "table7.csv").open(newline="") as file:
        assert all(row["failed"] == "" and row["ours_acc"] != "not run" for row in csv.DictReader(file))
