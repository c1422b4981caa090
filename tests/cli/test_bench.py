import json

import pytest


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
        (["table44", "--quick"], "got TABLE='table44'; expected one of: table4"),
        (["table4"], "expected --cohort CSV with --features DIR, or --quick alone"),
        (["table4", "--cohort", "a.csv"], "expected --cohort CSV with --features DIR, or --quick alone"),
        (["table4", "--quick", "--cohort", "a.csv"], "expected --cohort CSV with --features DIR, or --quick alone"),
        (["table4", "--quick", "--beside", "lung"], "got beside='lung'; expected one of"),
        (["table4", "--quick", "--recipe", "own"], "got recipe='own'; expected one of"),
        (["table4", "--quick", "--folds", "1"], "got folds=1; expected a whole number from 2 on"),
        (["table4", "--quick", "--epochs", "0"], "got epochs=0; expected a whole number from 1 on"),
        (
            ["table4", "--cohort", "a.csv", "--features", "a", "--features", "b"],
            "got 2 feature folders; table4 takes 1",
        ),
        (["table4", "--cohort", "no.csv", "--features", "no"], "no.csv cannot be read"),
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
    assert not list((tmp_path / "out").iterdir())
