"""Small tables in the layouts that archives write."""

import pytest

UUID = "83fce43e-42ac-4dcd-b156-2908e75f2e47"


@pytest.fixture(scope="session")
def slide():
    """Name a slide as the GDC does: case TCGA-SITE-PARTICIPANT, sample and kind."""

    def name(case, sample="01", kind="DX1"):
        return f"TCGA-{case}-{sample}Z-00-{kind}.{UUID}"

    return name


@pytest.fixture
def written(tmp_path):
    """Write a table: rows of cells, joined by tabs or what is asked for; gives its path."""

    def write(*rows, name="table.txt", separator="\t", before=""):
        path = tmp_path / name
        path.write_text(before + "".join(separator.join(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def manifest(written):
    """A GDC manifest of slides; a slide may be given with its file id."""

    def write(*slides, name="gdc_manifest.2024-08-06.txt"):
        rows = [one if isinstance(one, tuple) else (f"id-{one}", one) for one in slides]
        lines = [(file_id, f"{slide}.svs", "1362b5", "4219837", "released") for file_id, slide in rows]
        return written(("id", "filename", "md5", "size", "state"), *lines, name=name)

    return write


@pytest.fixture
def sample_sheet(written):
    """A GDC sample sheet of (slide, project)."""

    def write(*slides, name="gdc_sample_sheet.tsv"):
        header = ("File ID", "File Name", "Data Category", "Data Type", "Project ID", "Case ID", "Sample ID")
        lines = [
            (f"id-{slide}", f"{slide}.svs", "Biospecimen", "Slide Image", project, slide[:12], slide[:16])
            for slide, project in slides
        ]
        return written((*header, "Sample Type"), *((*line, "Primary Tumor") for line in lines), name=name)

    return write


@pytest.fixture
def clinical(written):
    """A GDC clinical.tsv of (case, project, diagnosis), with the columns of 2020 to 2024."""

    def write(*rows, name="clinical.tsv"):
        lines = [("uuid", case, project, "'--", diagnosis) for case, project, diagnosis in rows]
        return written(
            ("case_id", "case_submitter_id", "project_id", "days_to_death", "primary_diagnosis"), *lines, name=name
        )

    return write


@pytest.fixture
def panda(written):
    """PANDA's train.csv of (image, provider, grade, score)."""

    def write(*rows, name="train.csv"):
        return written(("image_id", "data_provider", "isup_grade", "gleason_score"), *rows, name=name, separator=",")

    return write
