import pytest

from dtcwsi.cohorts.definitions import COHORTS
from dtcwsi.cohorts.panda import judge_panda
from dtcwsi.cohorts.tables import read_source_tables
from dtcwsi.errors import CohortError


def judge(*paths, on_disk=()):
    return judge_panda(COHORTS["panda"], read_source_tables(paths), on_disk)


def test_grade_0_is_benign_and_the_rest_cancerous(panda):
    rows = [(f"i{grade}", "karolinska" if grade % 2 else "radboud", str(grade), f"score {grade}") for grade in range(6)]
    judged = judge(panda(*rows), on_disk=["i0", "i0_mask"])
    assert {slide: row.label for slide, row in judged.rows.items()} == {
        "i0": "benign", **{f"i{grade}": "cancerous" for grade in range(1, 6)}
    }  # fmt: skip
    row = judged.rows["i3"]
    assert (row.patient_id, row.site) == ("i3", "karolinska")
    assert row.further == {"isup_grade": "3", "gleason_score": "score 3"}
    assert judged.unlabelled == ("i0_mask",)


def test_an_image_in_two_rows_is_doubled_and_with_two_grades_refused(panda):
    path = panda(("a", "radboud", "1", "3+3"), ("b", "radboud", "0", "negative"), ("a", "radboud", "1", "3+3"))
    judged = judge(path)
    assert judged.doubled == {"a": f"2 rows of {path}"}
    assert list(judged.rows) == ["a", "b"]
    path = panda(("a", "radboud", "1", "3+3"), ("b", "radboud", "0", "negative"), ("a", "radboud", "2", "3+4"))
    judged = judge(path, on_disk=["a", "b"])
    assert (list(judged.rows), judged.unlabelled) == (["b"], ())
    assert judged.refused == {
        "a": f"isup_grade 1 in {path} row 2 and 2 in {path} row 4; expected one grade an image: take one of the rows "
        "out"
    }


@pytest.mark.parametrize("grade", ["6", "", "-1", "benign"])
def test_an_image_without_a_grade_is_refused_and_the_others_stay(panda, grade):
    path = panda(("a", "radboud", "0.0", "negative"), ("b", "radboud", grade, "x"))
    judged = judge(path)
    assert list(judged.rows) == ["a"]
    assert judged.refused == {"b": f"{path} row 3 has isup_grade {grade!r}; expected 0 to 5: correct the row"}


def test_rows_without_an_image_are_refused_one_by_one(panda):
    path = panda(("a", "radboud", "0", "negative"), ("", "radboud", "1", "3+3"), ("", "radboud", "2", "3+4"))
    judged = judge(path)
    assert list(judged.rows) == ["a"]
    assert judged.refused == {
        f"{path} row {number}": "no image_id: fill it in or take the row out" for number in (3, 4)
    }


def test_tables_of_the_gdc_are_refused(manifest, slide):
    with pytest.raises(CohortError, match=r"is a GDC manifest; expected for panda: PANDA's train.csv; leave it out"):
        judge(manifest(slide("05-4244")))
