import json

import pytest

from dtcwsi.cohorts.definitions import cohort_definition
from dtcwsi.cohorts.tables import read_source_tables
from dtcwsi.cohorts.tcga import judge_tcga
from dtcwsi.errors import CohortError


def kind_of(path):
    return read_source_tables([path]).kinds[path]


def test_kinds_are_told_by_columns_whatever_the_name(manifest, sample_sheet, clinical, panda, slide):
    paths = [
        manifest(slide("05-4244"), name="a.csv"),
        sample_sheet((slide("05-4244"), "TCGA-LUAD"), name="b.csv"),
        clinical(("TCGA-05-4244", "TCGA-LUAD", "Adenocarcinoma, NOS"), name="c.csv"),
        panda(("0005f7", "karolinska", "0", "0+0"), name="d.txt"),
    ]
    assert list(read_source_tables(paths).kinds.values()) == [
        "a GDC manifest",
        "a GDC sample sheet",
        "a GDC clinical table",
        "PANDA's train.csv",
    ]


def test_a_manifest_and_a_sheet_list_files(manifest, sample_sheet, slide):
    luad, lusc = slide("05-4244"), slide("18-3406")
    tables = read_source_tables([manifest(("f1", luad)), sample_sheet((lusc, "TCGA-LUSC"))])
    assert [(file.name, file.file_id) for file in tables.files] == [
        (f"{luad}.svs", "f1"),
        (f"{lusc}.svs", f"id-{lusc}"),
    ]
    assert tables.projects == {"TCGA-18-3406": "TCGA-LUSC"}


def test_the_sheet_of_2024_has_other_columns_behind_the_case(written, slide):
    header = ("File ID", "File Name", "Data Category", "Data Type", "Project ID", "Case ID", "Sample ID")
    row = (
        "f1",
        f"{slide('05-4244')}.svs",
        "Biospecimen",
        "Slide Image",
        "TCGA-LUAD",
        "TCGA-05-4244",
        "TCGA-05-4244-01Z",
    )
    path = written(
        (*header, "Tissue Type", "Tumor Descriptor", "Specimen Type", "Preservation Method"),
        (*row, "Tumor", "Primary", "Solid Tissue", "FFPE"),
    )
    assert kind_of(path) == "a GDC sample sheet"
    assert read_source_tables([path]).projects == {"TCGA-05-4244": "TCGA-LUAD"}


def test_several_cases_in_one_cell_of_a_sheet(written):
    header = ("File ID", "File Name", "Project ID", "Case ID")
    path = written(
        header,
        ("f1", "pair.vcf.gz", "TCGA-LUAD, TCGA-LUAD", "TCGA-86-8076, TCGA-86-8077"),
        ("f2", "pool.vcf.gz", "TCGA-LUAD, TCGA-LUSC", "TCGA-86-8078, TCGA-86-8079"),
    )
    assert read_source_tables([path]).projects == {"TCGA-86-8076": "TCGA-LUAD", "TCGA-86-8077": "TCGA-LUAD"}


def test_a_case_that_is_not_the_slides_is_refused(written, slide):
    path = written(
        ("File ID", "File Name", "Project ID", "Case ID"),
        ("f1", f"{slide('05-4244')}.svs", "TCGA-LUAD", "TCGA-05-4249"),
    )
    with pytest.raises(
        CohortError, match=r"row 2 gives the file 'TCGA-05-4244-.*'TCGA-05-4249'; expected TCGA-05-4244"
    ):
        read_source_tables([path])


def test_a_case_has_several_rows_and_missing_values(clinical):
    path = clinical(
        ("TCGA-A2-A0CK", "TCGA-BRCA", "Lobular carcinoma, NOS"),
        ("TCGA-A2-A0CK", "TCGA-BRCA", "lobular carcinoma, NOS"),
        ("TCGA-A2-A0CK", "TCGA-BRCA", "'--"),
        ("TCGA-E9-A1N6", "TCGA-BRCA", "not reported"),
        ("TCGA-BH-A18P", "'--", "Infiltrating duct carcinoma, NOS"),
    )
    tables = read_source_tables([path])
    assert tables.projects == {"TCGA-A2-A0CK": "TCGA-BRCA", "TCGA-E9-A1N6": "TCGA-BRCA"}
    assert tables.diagnoses == {
        "TCGA-A2-A0CK": ("Lobular carcinoma, NOS",),
        "TCGA-BH-A18P": ("Infiltrating duct carcinoma, NOS",),
    }


def test_the_clinical_table_of_2018_quotes_cells(written):
    path = written(
        ("case_id", "submitter_id", "project_id", "primary_diagnosis"),
        ("uuid", "TCGA-A8-A09G", "TCGA-BRCA", '"Infiltrating duct carcinoma, NOS"'),
    )
    assert read_source_tables([path]).diagnoses == {"TCGA-A8-A09G": ("Infiltrating duct carcinoma, NOS",)}


def test_quotes_inside_cells_are_characters_in_the_gdcs_tables(written):
    path = written(
        ("case_id", "case_submitter_id", "project_id", "note", "primary_diagnosis"),
        ("u1", "TCGA-A8-A09G", "TCGA-BRCA", '"left', "Lobular carcinoma, NOS"),
        ("u2", "TCGA-A8-A09H", "TCGA-BRCA", '2" x 3"', 'Carcinoma, "mixed" type'),
        ("u3", "TCGA-A8-A09I", "TCGA-BRCA", '"', '"one" and "other"'),
        ("u4", "TCGA-A8-A09J", "TCGA-BRCA", '""', '"Carcinoma, ""mixed"" type"'),
    )
    assert list(read_source_tables([path]).diagnoses.values()) == [
        ("Lobular carcinoma, NOS",),
        ('Carcinoma, "mixed" type',),
        ('"one" and "other"',),
        ('Carcinoma, "mixed" type',),
    ]


def test_the_clinical_table_of_2019_repeats_column_names(written):
    path = written(
        (
            "case_id",
            "submitter_id",
            "project_id",
            "submitter_id",
            "case_submitter_id",
            "primary_diagnosis",
            "submitter_id",
        ),
        ("u", "TCGA-B6-A408", "TCGA-BRCA", "TCGA-B6-A408_demographic", "--", "Lobular carcinoma, NOS", "x_treatment"),
    )
    tables = read_source_tables([path])
    assert tables.projects == {"TCGA-B6-A408": "TCGA-BRCA"}
    assert tables.diagnoses == {"TCGA-B6-A408": ("Lobular carcinoma, NOS",)}


def test_the_dotted_clinical_table_marks_the_primary_disease(written):
    header = (
        "project.project_id",
        "cases.submitter_id",
        "demographic.submitter_id",
        "diagnoses.diagnosis_is_primary_disease",
        "diagnoses.primary_diagnosis",
    )
    path = written(
        header,
        ("TCGA-BRCA", "TCGA-E2-A1IU", "d", "false", "Melanoma, NOS"),
        ("TCGA-BRCA", "TCGA-E2-A1IU", "d", "true", "Infiltrating duct carcinoma, NOS"),
        ("TCGA-BRCA", "TCGA-A1-A0SB", "d", "'--", "Adenoid cystic carcinoma"),
    )
    tables = read_source_tables([path])
    assert tables.diagnoses == {
        "TCGA-E2-A1IU": ("Infiltrating duct carcinoma, NOS",),
        "TCGA-A1-A0SB": ("Adenoid cystic carcinoma",),
    }
    assert set(tables.projects.values()) == {"TCGA-BRCA"}


def test_cbioportals_comments_are_passed_over_and_rows_keep_their_numbers(written):
    before = "#Patient Identifier\tCancer Type Detailed\n#STRING\tSTRING\n#1\t1\n"
    header = ("PATIENT_ID", "SAMPLE_ID", "CANCER_TYPE_DETAILED")
    row = ("TCGA-A2-A0CK", "TCGA-A2-A0CK-01", "Breast Invasive Lobular Carcinoma")
    tables = read_source_tables([written(header, row, before=before)])
    assert tables.diagnoses == {"TCGA-A2-A0CK": ("Breast Invasive Lobular Carcinoma",)}
    assert tables.projects == {}
    with pytest.raises(CohortError, match=r"row 6 has 1 cells; expected 3"):
        read_source_tables([written(header, row, ("TCGA-A2-A0CL",), before=before)])


def test_cbioportals_acronym_is_the_project(written):
    path = written(("PATIENT_ID", "SUBTYPE", "CANCER_TYPE_ACRONYM"), ("TCGA-05-4244", "LUAD", "LUAD"))
    assert read_source_tables([path]).projects == {"TCGA-05-4244": "TCGA-LUAD"}


def test_cases_of_several_projects_are_torn(clinical, sample_sheet, slide):
    paths = [
        sample_sheet((slide("05-4244"), "TCGA-LUAD"), (slide("18-3406"), "TCGA-LUSC")),
        clinical(("TCGA-05-4244", "TCGA-LUSC", "'--")),
    ]
    tables = read_source_tables(paths)
    assert tables.torn(["TCGA-LUSC"]) == {
        "TCGA-05-4244": f"case TCGA-05-4244 is of project TCGA-LUAD in {paths[0]} and of TCGA-LUSC in {paths[1]}; "
        "expected one project a case: correct the rows"
    }
    judged = judge_tcga(cohort_definition("tcga-nsclc"), tables, ())
    assert (list(judged.rows), list(judged.refused)) == ([slide("18-3406")], [slide("05-4244")])
    elsewhere = judge_tcga(cohort_definition("tcga-rcc"), tables, ())
    assert (list(elsewhere.left_out), elsewhere.refused) == ([slide("05-4244"), slide("18-3406")], {})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"slide_id,label\na,x\n", r"has the columns slide_id, label; expected a GDC manifest"),
        (b"a,b,c,d,e,f,g\n1,2,3,4,5,6,7\n", r"has the columns a, b, c, d, e, f \.\.\.; expected"),
        (b"image_id,data_provider\na,radboud\n", r"has the columns image_id, data_provider; expected"),
        (b"\x1f\x8b\x08\x00rest", r"is a gzip archive; expected a table as text: unpack it"),
        (b"PK\x03\x04rest", r"is a zip archive or a workbook; expected a table as text: unpack it"),
        (json.dumps([{"case_id": "x"}]).encode(), r"is JSON; expected a table: download it .* as TSV"),
        (b"", r"is empty; expected a GDC manifest"),
        (b"id\tfilename\tmd5\n", r"has a header and no row"),
        (b"id\tfilename\tmd5\na\tb\n", r"row 2 has 2 cells; expected 3"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(tmp_path, content, told):
    path = tmp_path / "clinical.tsv"
    path.write_bytes(content)
    with pytest.raises(CohortError, match=rf"^{path} {told}"):
        read_source_tables([path])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CohortError, match=r"nowhere.tsv cannot be read: No such file or directory; expected a GDC"):
        read_source_tables([tmp_path / "nowhere.tsv"])


def test_a_table_named_twice_is_read_once(manifest, slide):
    path = manifest(slide("05-4244"))
    assert len(read_source_tables([path, path]).files) == 1
