from pathlib import Path

import pytest

from dtcwsi.bags.cohort import read_labels
from dtcwsi.cohorts.build import FilesOnDisk, build_cohort, write_labels
from dtcwsi.cohorts.definitions import COHORTS
from dtcwsi.cohorts.tables import read_source_tables
from dtcwsi.errors import CohortError, UsageError


@pytest.fixture
def lung(sample_sheet, slide):
    """Three slides of two patients, one of each class, and a frozen section."""
    return sample_sheet(
        (slide("05-4244"), "TCGA-LUAD"),
        (slide("05-4244", kind="DX2"), "TCGA-LUAD"),
        (slide("18-3406"), "TCGA-LUSC"),
        (slide("18-3406", kind="TS1"), "TCGA-LUSC"),
    )


def build(name, *paths, files=None, **options):
    return build_cohort(COHORTS[name], read_source_tables(paths), files or FilesOnDisk(), **options)


def test_slides_and_patients_stand_beside_the_papers(lung):
    counts = {
        one.label: (one.slides, one.patients, one.paper_slides, one.paper_patients)
        for one in build("tcga-nsclc", lung).counts
    }
    assert counts == {"LUAD": (2, 1, 507, None), "LUSC": (1, 1, 486, None)}


def test_without_files_nothing_is_missing(lung):
    cohort = build("tcga-nsclc", lung)
    assert cohort.missing is None
    assert cohort.complete
    assert list(cohort.left_out) == ["frozen section (TS)"]


def test_slides_without_a_slide_or_feature_file_are_missing_and_stay(lung, slide):
    files = FilesOnDisk({slide("05-4244"): (Path("a.svs"),)}, {slide("18-3406"): Path("b.h5")})
    cohort = build("tcga-nsclc", lung, files=files)
    assert cohort.missing == (slide("05-4244", kind="DX2"),)
    assert not cohort.complete
    assert len(cohort.rows) == 3


def test_two_files_of_one_name_are_doubled_and_the_first_is_taken(lung, slide):
    names = {slide("05-4244"): (Path("a/x.svs"), Path("b/x.svs")), slide("18-3406", kind="TS1"): (Path("a"), Path("b"))}
    cohort = build("tcga-nsclc", lung, files=FilesOnDisk(names))
    assert cohort.doubled == {slide("05-4244"): "a/x.svs, b/x.svs"}  # what is left out may be doubled
    assert cohort.paths == {slide("05-4244"): Path("a/x.svs")}
    assert not cohort.complete


def test_a_slide_doubled_in_rows_and_files_tells_both(panda):
    path = panda(("a", "radboud", "1", "3+3"), ("a", "radboud", "1", "3+3"))
    cohort = build("panda", path, files=FilesOnDisk({"a": (Path("x"), Path("y"))}))
    assert cohort.doubled == {"a": f"2 rows of {path}; x, y"}


def test_one_site_and_an_empty_class_are_warned_of(lung, sample_sheet, slide):
    assert build("tcga-nsclc", lung).warnings == ()
    cohort = build("tcga-nsclc", sample_sheet((slide("05-4244"), "TCGA-LUAD")))
    assert len(cohort.warnings) == 2
    assert cohort.warnings[0].startswith("no slide is of class LUSC")
    assert cohort.warnings[1].startswith("every slide is of one site (05)")


def test_reasons_come_with_the_most_frequent_first(sample_sheet, slide):
    sheet = sample_sheet(
        (slide("05-4244"), "TCGA-LUAD"),
        (slide("05-4249", "06"), "TCGA-LUAD"),
        (slide("AA-3663"), "TCGA-COAD"),
        (slide("AA-3664"), "TCGA-COAD"),
    )
    assert {reason: len(slides) for reason, slides in build("tcga-nsclc", sheet).left_out.items()} == {
        "of another project (TCGA-COAD)": 2,
        "no primary tumour (sample 06)": 1,
    }
    assert next(iter(build("tcga-nsclc", sheet).left_out)).endswith("(TCGA-COAD)")


def test_tables_and_files_that_do_not_match_are_refused(lung, clinical):
    with pytest.raises(
        CohortError,
        match=r"none of the 3 slides of tcga-nsclc, such as 'TCGA-05-4244-.*', has a slide or feature file; got "
        r"1 named otherwise, such as 'CMU-1'; expected files named after the slides",
    ):
        build("tcga-nsclc", lung, files=FilesOnDisk({"CMU-1": (Path("CMU-1.svs"),)}))
    with pytest.raises(
        CohortError, match=r"no slide belongs to tcga-rcc: 4 are left out, 2 of them because: of another"
    ):
        build("tcga-rcc", lung)
    cases = clinical(("TCGA-05-4244", "TCGA-LUAD", "'--"))
    with pytest.raises(
        CohortError, match=r"no table names what is on disk \(1, such as 'CMU-1'\); expected slides of LUAD"
    ):
        build("tcga-nsclc", cases, files=FilesOnDisk(features={"CMU-1": Path("CMU-1.h5")}))
    with pytest.raises(CohortError, match=r"the tables list no slide; .* add a manifest or sample sheet, or --slides"):
        build("tcga-nsclc", cases)


def test_frozen_means_nothing_to_panda(panda):
    with pytest.raises(UsageError, match=r"--frozen is of TCGA's slides; panda has none"):
        build("panda", panda(("a", "radboud", "0", "negative")), frozen=True)


def test_the_table_is_read_by_train_as_it_was_meant(lung, slide, tmp_path):
    inside, outside = tmp_path / "out" / "s" / "x.svs", Path("/elsewhere/y.svs")
    files = FilesOnDisk({slide("05-4244"): (inside,), slide("18-3406"): (outside,)})
    table = tmp_path / "out" / "labels.csv"
    write_labels(build("tcga-nsclc", lung, files=files), table)
    lines = table.read_text().splitlines()
    assert lines[0] == "slide_id,patient_id,label,site,path"
    assert lines[1] == f"{slide('05-4244')},TCGA-05-4244,LUAD,05,s/x.svs"
    assert lines == [lines[0], *sorted(lines[1:])]
    read = {row.slide_id: row for row in read_labels(table)}
    assert {name: (row.label, row.patient_id, row.site, row.path) for name, row in read.items()} == {
        slide("05-4244"): ("LUAD", "TCGA-05-4244", "05", inside),
        slide("05-4244", kind="DX2"): ("LUAD", "TCGA-05-4244", "05", None),
        slide("18-3406"): ("LUSC", "TCGA-18-3406", "18", outside),
    }


def test_pandas_table_keeps_grade_and_score(panda, tmp_path):
    path = panda(("b", "karolinska", "3", "4+3"), ("a", "radboud", "0", "negative"))
    write_labels(build("panda", path), tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text().splitlines() == [
        "slide_id,patient_id,label,site,isup_grade,gleason_score",
        "a,a,benign,radboud,0,negative",
        "b,b,cancerous,karolinska,3,4+3",
    ]
    assert [(row.label, row.site) for row in read_labels(tmp_path / "labels.csv")] == [
        ("benign", "radboud"),
        ("cancerous", "karolinska"),
    ]
