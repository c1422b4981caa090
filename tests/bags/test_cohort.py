from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from dtcwsi.bags.cohort import class_names_of, overlooked_columns, read_cohort, read_labels
from dtcwsi.errors import CohortError, UsageError


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


@pytest.fixture
def features(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()

    def write(slide, rows=3, dim=4, **attributes):
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["features"] = np.ones((rows, dim), np.float32)
            file["coords"] = np.zeros((rows, 2), np.int64)
            file.attrs.update(attributes)
        return folder

    return write


def test_every_column_is_read(table, tmp_path):
    path = table(
        "slide_id,label,patient_id,path,spacing_um,fold,note\n"
        "007,1,0001,slides/007.svs,0.25,0,x\n"
        "008,0,0002,/data/008.svs,,1,\n"
    )
    first, second = read_labels(path)
    assert (first.slide_id, first.label, first.patient_id) == ("007", "1", "0001")
    assert (first.path, first.spacing_um, first.fold) == (tmp_path / "slides/007.svs", 0.25, 0)
    assert (second.path, second.spacing_um, second.fold) == (Path("/data/008.svs"), None, 1)


def test_without_patients_each_slide_is_its_own(table):
    assert [row.patient_id for row in read_labels(table("slide_id,label\na,x\nb,y\n"))] == ["a", "b"]


def test_patients_are_clams_cases_or_those_of_tcga_barcodes(table):
    assert [row.patient_id for row in read_labels(table("case_id,slide_id,label\np,a,x\np,b,y\n"))] == ["p", "p"]
    slides = [f"TCGA-05-{case}-01Z-00-DX{number}" for case, number in (("4244", 1), ("4244", 2), ("4249", 1))]
    rows = read_labels(table("slide_id,label\n" + "".join(f"{slide},x\n" for slide in slides)))
    assert [row.patient_id for row in rows] == ["TCGA-05-4244", "TCGA-05-4244", "TCGA-05-4249"]
    both = read_labels(table("slide_id,label,patient_id,case_id\na,x,p,\n"))
    assert both[0].patient_id == "p"


def test_byte_order_mark_blank_lines_and_spaces_are_no_matter(table):
    rows = read_labels(table("slide_id, label\r\n a , x \r\n\r\n,\r\n", encoding="utf-8-sig"))
    assert [(row.slide_id, row.label) for row in rows] == [("a", "x")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected slide_id,label"),
        ("slide_id,label\n", "has a header and no row"),
        ("slide_id;label\na;x\n", "is separated by ';'; expected commas"),
        ("slide_id\tlabel\na\tx\n", r"is separated by '\\t'; expected commas"),
        ("slide,label\na,x\n", "lacks the column 'slide_id'; got slide, label"),
        ("slide_id,class\na,x\n", "lacks the column 'label'; got slide_id, class"),
        ("slide_id,label\na,x\nb\n", "row 3 has 1 cells; expected 2"),
        ("slide_id,label\na,x\nb,NaN\n", r"row 3 has no label \(got 'NaN'\); fill it in"),
        ("slide_id,label\na,x\n,y\n", r"row 3 has no slide_id"),
        ("slide_id,label,patient_id\na,x,p\nb,y,\n", "row 3 has no patient_id"),
        ("slide_id,label,case_id\na,x,p\nb,y,\n", "row 3 has no case_id"),
        ("slide_id,label\na,x\na,y\n", "lists slide 'a' more than once"),
        ("slide_id,label,label\na,x,y\n", "has the column 'label' more than once"),
        ("slide_id,label,fold\na,x,0\nb,y,\n", "gives a fold in 1 of 2 rows"),
        ("slide_id,label,fold\na,x,one\n", "row 2 has fold 'one'; expected a number"),
        ("slide_id,label,fold\na,x,0.5\n", "row 2 has fold '0.5'; expected a whole number"),
        ("slide_id,label,fold\na,x,inf\n", "row 2 has fold 'inf'; expected a number"),
        ("slide_id,label,spacing_um\na,x,-inf\n", "row 2 has spacing_um '-inf'; expected a number"),
        (f"slide_id,label\na,{'x' * 200_000}\n", "row 2 is no CSV .*field larger than field limit"),
        ('slide_id,label\na,x\nb,"y\n', "row 3 is no CSV .unexpected end of data.; close its quotes"),
        ("slide_id,label\n\n\na,x\nb\n", "row 5 has 1 cells; expected 2"),
        ('slide_id,label\na,"x\nx"\nb,\n', "row 4 has no label"),
        ("slide_id,label,spacing_um\na,x,wide\n", "row 2 has spacing_um 'wide'; expected a number"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_one_sentence(table, text, message):
    with pytest.raises(CohortError, match=message) as caught:
        read_labels(table(text))
    assert "\n" not in str(caught.value)


def test_quoted_line_breaks_and_separators_stay_in_their_cell(table):
    rows = read_labels(table('slide_id,label,note\na,x,"two\nlines"\nb,y\u2028z,one\n'))
    assert [(row.slide_id, row.label) for row in rows] == [("a", "x"), ("b", "y\u2028z")]


def test_a_missing_table_and_other_bytes_are_told(tmp_path):
    with pytest.raises(CohortError, match="cannot be read: No such file"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"slide_id,label\n\xff\xfe,x\n")
    with pytest.raises(CohortError, match="is not UTF-8 text"):
        read_labels(tmp_path / "bytes.csv")


def test_the_join_tells_what_is_on_one_side_only(table, features):
    for slide in ("a", "b", "z"):
        folder = features(slide)
    features("e", rows=0)
    cohort = read_cohort(table("slide_id,label\na,x\nb,y\nc,x\ne,y\n"), folder)
    assert [slide.slide_id for slide in cohort.slides] == ["a", "b"]
    assert cohort.labels == ("x", "y")
    assert cohort.patients == ("a", "b")
    assert cohort.in_dim == 4
    assert cohort.without_features == ("c",)
    assert cohort.without_label == ("z",)
    assert cohort.no_tissue == ("e",)
    assert cohort.refused == {}
    assert cohort.fixed_folds is None


def test_features_of_two_kinds_of_which_neither_is_rare_are_refused_at_once(table, features):
    for slide, spacing in zip("abcde", (0.5, 0.5, 0.5, 1.0, 1.0), strict=True):
        folder = features(slide, patch_spacing_um=spacing)
    with pytest.raises(
        CohortError, match=r"2 of 5 feature files are of another kind than 3 \(um/px of patches 1.0, those"
    ):
        read_cohort(table("slide_id,label\na,x\nb,y\nc,x\nd,y\ne,x\n"), folder)


def test_the_magnification_that_trident_notes_with_coordinates_counts(table, features):
    for slide, magnification in zip("abcdef", (20, b"20", 10, "None", np.nan, None), strict=True):
        folder = features(slide)
        with h5py.File(folder / f"{slide}.h5", "r+") as file:
            if "coords" not in file:
                file["coords"] = np.zeros((len(file["features"]), 2))
            if magnification is not None:
                file["coords"].attrs["target_magnification"] = magnification
    cohort = read_cohort(table("slide_id,label\na,x\nb,y\nc,x\nd,y\ne,x\nf,y\n"), folder)
    assert cohort.refused == {"c": "other features than most (magnification 10.0, most have 20.0)"}


def test_files_that_record_another_slide_than_their_name_are_known(table, features):
    for slide, recorded in zip("abc", ("a", np.bytes_(b"b"), "d"), strict=True):
        folder = features(slide)
        with h5py.File(folder / f"{slide}.h5", "r+") as file:
            file.attrs["slide_id"] = recorded
    assert read_cohort(table("slide_id,label\na,x\nb,y\nc,x\n"), folder).renamed == {"c": "d"}


def test_features_of_another_kind_than_most_are_refused_with_the_reason(table, features):
    for slide in ("a", "b"):
        folder = features(slide, encoder="one")
    features("c", dim=5, encoder="one")
    features("d", encoder="two")
    (folder / "e.h5").write_bytes(b"no hdf5")
    cohort = read_cohort(table("slide_id,label\na,x\nb,y\nc,x\nd,y\ne,x\n"), folder)
    assert [slide.slide_id for slide in cohort.slides] == ["a", "b"]
    assert set(cohort.refused) == {"c", "d", "e"}
    assert cohort.refused["c"] == "other features than most (width 5, most have 4); extract again"
    assert cohort.refused["d"] == "other features than most (encoder two, most have one); extract again"


def test_made_by_is_that_of_most_slides(table, features):
    for slide in ("a", "b", "c"):
        folder = features(slide, encoder="one")
    cohort = read_cohort(table("slide_id,label\na,x\nb,y\nc,x\n"), folder)
    odd = replace(cohort.headers[0], encoder="two")
    assert replace(cohort, headers=(odd, *cohort.headers[1:])).made_by == cohort.headers[1].made_by
    drawn = replace(cohort.headers[0], tissue_source="outlines")
    assert "tissue_source" not in cohort.made_by
    assert replace(cohort, headers=(drawn, *cohort.headers[1:])).made_by["tissue_source"] is None
    assert replace(cohort, headers=(drawn,) * 2).made_by["tissue_source"] == "outlines"


def test_nothing_left_is_an_error(table, features):
    folder = features("a", rows=0)
    with pytest.raises(CohortError, match="none of the 1 slides with features can be used: 1 without tissue"):
        read_cohort(table("slide_id,label\na,x\n"), folder)
    with pytest.raises(CohortError, match="none of the 1 slides of .* has a file in .* such as 'a'"):
        read_cohort(table("slide_id,label\nq,x\n"), folder)
    with pytest.raises(UsageError, match="does not exist"):
        read_cohort(table("slide_id,label\nq,x\n"), folder / "absent")


def test_leaving_further_slides_out(table, features):
    for slide in ("a", "b"):
        folder = features(slide)
    cohort = read_cohort(table("slide_id,label,fold\na,x,0\nb,y,1\n"), folder)
    assert cohort.fixed_folds == (0, 1)
    left = cohort.without({"a": "NaN"})
    assert [slide.slide_id for slide in left.slides] == ["b"]
    assert [header.slide_id for header in left.headers] == ["b"]
    assert left.refused == {"a": "NaN"}
    with pytest.raises(CohortError, match="none of the 2 slides can be used; the first: NaN"):
        cohort.without({"a": "NaN", "b": "NaN"})


def test_classes_are_ordered_as_numbers_if_they_are():
    assert class_names_of(("10", "9", "2")) == ("2", "9", "10")
    assert class_names_of(("10", "9", "b")) == ("10", "9", "b")


def test_slides_that_need_no_label_may_have_none(table):
    rows = read_labels(table("slide_id,spacing_um\na,0.25\nb,\n"), labelled=False)
    assert [(row.label, row.spacing_um) for row in rows] == [("", 0.25), ("", None)]
    assert read_labels(table("slide_id,label\na,x\nb,\n"), labelled=False)[1].label == ""
    with pytest.raises(CohortError, match="lacks the column 'slide_id'; got label; expected slide_id and optional"):
        read_labels(table("label\nx\n"), labelled=False)


@pytest.mark.parametrize("cell", ["0", "-0.25"])
def test_a_resolution_is_above_0(table, cell):
    with pytest.raises(CohortError, match=f"row 2 has spacing_um '{cell}'; expected um/px above 0"):
        read_labels(table(f"slide_id,label,spacing_um\na,x,{cell}\n"))


@pytest.mark.parametrize(
    ("header", "overlooked"),
    [
        ("slide_id,label,Spacing_um", {"Spacing_um": "spacing_um"}),
        ("slide_id,label,MPP,Patient ID", {"MPP": "spacing_um", "Patient ID": "patient_id"}),
        ("slide_id,label,patients,Site", {"patients": "patient_id", "Site": "site"}),
        ("slide_id,label,case_id,patient,spacing_um,mpp", {}),
        ("slide_id,label,patient_id,age,stain,grade,patient_age", {}),
    ],
)
def test_columns_that_look_mistyped_are_named(table, header, overlooked):
    path = table(header + "\n" + ",".join("1" for _ in header.split(",")) + "\n")
    assert overlooked_columns(path) == overlooked
