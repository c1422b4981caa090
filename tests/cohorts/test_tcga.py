import pytest

from dtcwsi.cohorts.definitions import COHORTS
from dtcwsi.cohorts.tables import read_source_tables
from dtcwsi.cohorts.tcga import judge_tcga
from dtcwsi.errors import CohortError

NSCLC, BRCA, RCC = COHORTS["tcga-nsclc"], COHORTS["tcga-brca"], COHORTS["tcga-rcc"]


def judge(definition, *paths, on_disk=(), frozen=False):
    return judge_tcga(definition, read_source_tables(paths), on_disk, frozen=frozen)


def labels(judged):
    return {slide: row.label for slide, row in judged.rows.items()}


def test_the_project_is_the_class_of_kidney_and_lung(sample_sheet, slide):
    sheet = sample_sheet(
        (slide("KL-8323"), "TCGA-KICH"),
        (slide("A3-3308"), "TCGA-KIRC"),
        (slide("2Z-A9J1"), "TCGA-KIRP"),
        (slide("05-4244"), "TCGA-LUAD"),
        (slide("18-3406"), "TCGA-LUSC"),
    )
    kidney = judge(RCC, sheet)
    assert labels(kidney) == {slide("KL-8323"): "CRCC", slide("A3-3308"): "CCRCC", slide("2Z-A9J1"): "PRCC"}
    assert kidney.left_out == {
        slide("05-4244"): "of another project (TCGA-LUAD)",
        slide("18-3406"): "of another project (TCGA-LUSC)",
    }
    assert labels(judge(NSCLC, sheet)) == {slide("05-4244"): "LUAD", slide("18-3406"): "LUSC"}


def test_patient_and_site_are_the_barcodes(sample_sheet, slide):
    [row] = judge(NSCLC, sample_sheet((slide("05-4244"), "TCGA-LUAD"))).rows.values()
    assert (row.slide_id, row.patient_id, row.site) == (slide("05-4244"), "TCGA-05-4244", "05")


def test_a_manifest_and_a_clinical_table_join_by_case(manifest, clinical, slide):
    table = clinical(("TCGA-05-4244", "TCGA-LUAD", "Adenocarcinoma, NOS"))
    judged = judge(NSCLC, manifest(slide("05-4244"), slide("18-3406")), table)
    assert labels(judged) == {slide("05-4244"): "LUAD"}
    assert judged.left_out == {slide("18-3406"): "no table tells the project of its case"}


def test_the_diagnosis_is_the_class_of_breast_and_others_are_left_out(manifest, clinical, slide):
    table = clinical(
        ("TCGA-A2-0001", "TCGA-BRCA", "Infiltrating duct carcinoma, NOS"),
        ("TCGA-A2-0002", "TCGA-BRCA", "Lobular carcinoma, NOS"),
        ("TCGA-A2-0003", "TCGA-BRCA", "Infiltrating duct and lobular carcinoma"),
        ("TCGA-A2-0004", "TCGA-BRCA", "Lobular carcinoma, NOS"),
        ("TCGA-A2-0004", "TCGA-BRCA", "Infiltrating duct carcinoma, NOS"),
        ("TCGA-A2-0005", "TCGA-BRCA", "'--"),
        ("TCGA-A2-0006", "TCGA-LUAD", "Infiltrating duct carcinoma, NOS"),
    )
    slides = [slide(f"A2-000{number}") for number in range(1, 8)]
    judged = judge(BRCA, manifest(*slides), table)
    assert labels(judged) == {slides[0]: "IDC", slides[1]: "ILC"}
    assert judged.left_out == {
        slides[2]: "another diagnosis (Infiltrating duct and lobular carcinoma)",
        slides[3]: "several diagnoses (Infiltrating duct carcinoma, NOS; Lobular carcinoma, NOS)",
        slides[4]: "no table tells the diagnosis of its case",
        slides[5]: "of another project (TCGA-LUAD)",
        slides[6]: "no table tells the diagnosis of its case",
    }


def test_two_archives_names_of_one_class_agree(manifest, clinical, written, slide):
    cbioportal = written(
        ("PATIENT_ID", "CANCER_TYPE_DETAILED"),
        ("TCGA-A2-0001", "Breast Invasive Lobular Carcinoma"),
        ("TCGA-A2-0002", "Breast Invasive Ductal Carcinoma"),
    )
    table = clinical(("TCGA-A2-0001", "TCGA-BRCA", "Lobular carcinoma, NOS"))
    judged = judge(BRCA, manifest(slide("A2-0001"), slide("A2-0002")), table, cbioportal)
    assert labels(judged) == {slide("A2-0001"): "ILC", slide("A2-0002"): "IDC"}


KINDS = [
    ("01", "DX1", ""),
    ("01", "DX2", ""),
    ("01", "TS1", "frozen section (TS)"),
    ("01", "BSA", "frozen section (BS)"),
    ("01", "MS1", "frozen section (MS)"),
    ("01", "XY1", "another kind of slide (XY1)"),
    ("06", "DX1", "no primary tumour (sample 06)"),
    ("11", "DX1", "no primary tumour (sample 11)"),
]


@pytest.mark.parametrize(("sample", "kind", "reason"), KINDS)
@pytest.mark.parametrize("frozen", [False, True])
def test_primary_diagnostic_slides_are_taken_and_frozen_ones_if_asked(
    sample_sheet, slide, sample, kind, reason, frozen
):
    name = slide("05-4244", sample, kind)
    judged = judge(NSCLC, sample_sheet((name, "TCGA-LUAD")), frozen=frozen)
    if not reason or (frozen and reason.startswith("frozen")):
        assert labels(judged) == {name: "LUAD"}
    else:
        assert judged.left_out == {name: reason}


def test_frozen_sections_of_normal_tissue_stay_out(sample_sheet, slide):
    name = slide("05-4244", "11", "TS1")
    assert judge(NSCLC, sample_sheet((name, "TCGA-LUAD")), frozen=True).left_out == {
        name: "no primary tumour (sample 11)"
    }


def test_names_that_tell_too_little_and_other_files_are_left_out(written, clinical):
    listed = written(
        ("id", "filename", "md5"),
        ("1", "TCGA-05-4244.svs", "x"),
        ("2", "C3L-00001-21.svs", "x"),
        ("3", "ef19e097.rna_seq.augmented_star_gene_counts.tsv", "x"),
    )
    assert judge(NSCLC, listed, clinical(("TCGA-05-4244", "TCGA-LUAD", "'--"))).left_out == {
        "TCGA-05-4244": "the name tells no sample or no kind of slide",
        "C3L-00001-21": "no TCGA barcode in the name",
        "ef19e097.rna_seq.augmented_star_gene_counts.tsv": "no slide image (.tsv)",
    }


def test_slides_on_disk_count_where_a_table_names_their_case(clinical, sample_sheet, slide):
    on_disk = [slide("05-4244"), slide("18-3406"), "CMU-1", slide("50-5049")]
    judged = judge(
        NSCLC,
        sample_sheet((slide("50-5049"), "TCGA-LUAD")),
        clinical(("TCGA-05-4244", "TCGA-LUAD", "'--")),
        on_disk=on_disk,
    )
    assert labels(judged) == {slide("05-4244"): "LUAD", slide("50-5049"): "LUAD"}
    assert judged.unlabelled == ("CMU-1", slide("18-3406"))
    assert judged.left_out == {}


def test_a_slide_in_two_rows_is_doubled_but_not_one_of_two_kinds_of_table(manifest, sample_sheet, slide):
    twice, once, other_id = slide("05-4244"), slide("18-3406"), slide("50-5049")
    listed = manifest(twice, twice, once, (f"id-{other_id}", other_id))
    again = manifest(once, ("another id", other_id), name="again.txt")
    sheet = sample_sheet((twice, "TCGA-LUAD"), (once, "TCGA-LUSC"), (other_id, "TCGA-LUAD"))
    judged = judge(NSCLC, listed, again, sheet)
    assert judged.doubled == {
        twice: f"3 rows of {listed}, {sheet}",
        other_id: f"3 rows of {listed}, {again}, {sheet}",
    }
    assert len(judged.rows) == 3


def test_a_manifest_alone_is_refused_with_the_table_that_is_missing(manifest, sample_sheet, slide):
    listed = manifest(slide("05-4244"), slide("18-3406"))
    with pytest.raises(
        CohortError,
        match=r"no table tells the project of the slides for tcga-nsclc \(2 found\); got .*manifest.*\(a GDC manifest\)"
        r"; expected also a GDC sample sheet or clinical.tsv .*: name it too",
    ):
        judge(NSCLC, listed)
    with pytest.raises(CohortError, match=r"no table tells the diagnosis .*expected also a GDC clinical.tsv"):
        judge(BRCA, sample_sheet((slide("A2-0001"), "TCGA-BRCA")))


def test_pandas_table_is_refused(panda):
    path = panda(("a", "radboud", "0", "negative"))
    with pytest.raises(CohortError, match=r"train.csv is PANDA's train.csv; expected for tcga-rcc: a GDC manifest, "):
        judge(RCC, path)
