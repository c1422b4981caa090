import json

import h5py
import numpy as np
import pytest

from dtcwsi.bags.cohort import read_labels

UUID = "83fce43e-42ac-4dcd-b156-2908e75f2e47"
LUAD, LUSC, FROZEN = (
    f"TCGA-{name}.{UUID}" for name in ("05-4244-01Z-00-DX1", "18-3406-01Z-00-DX1", "18-3406-01A-01-TS1")
)


@pytest.fixture
def sheet(tmp_path):
    """A sample sheet of three slides, and a download that has a folder for each file."""
    rows = ["File ID\tFile Name\tData Category\tData Type\tProject ID\tCase ID\tSample ID\tSample Type"]
    for number, (slide, project) in enumerate(((LUAD, "TCGA-LUAD"), (LUSC, "TCGA-LUSC"), (FROZEN, "TCGA-LUSC"))):
        rows.append(
            f"f{number}\t{slide}.svs\tBiospecimen\tSlide Image\t{project}\t{slide[:12]}\t{slide[:16]}\tPrimary Tumor"
        )
        (tmp_path / "download" / f"f{number}" / "logs").mkdir(parents=True)
        (tmp_path / "download" / f"f{number}" / f"{slide}.svs").write_bytes(b"a slide")
    path = tmp_path / "gdc_sample_sheet.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("arguments", [(), ("--list",), ("panda", "--list")])
def test_the_cohorts_are_listed_with_the_papers_counts(run, arguments):
    done = run("cohort", *arguments)
    assert done.status == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["tcga-brca", "IDC", "invasive", "ductal", "carcinoma", "of", "the", "breast", "772", "-", "-"] in rows
    assert [row[-3:] for row in rows if row[:2] == ["panda", "cancerous"]] == [["4,202", "-", "7,724"]]
    assert "patient_id is the image id" in done.out
    assert json.loads(run("cohort", *arguments, "--json").out)["tcga-rcc"]["classes"][0]["patients"] == 99


def test_a_download_becomes_the_labels_table(run, sheet, tmp_path):
    out = tmp_path / "labels.csv"
    done = run("cohort", "tcga-nsclc", sheet, "--slides", tmp_path / "download", "--out", out)
    assert done.status == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["class", "slides", "paper", "difference", "patients", "paper", "difference"]
    assert ["LUAD", "1", "507", "-506", "1", "-", "-"] in rows
    assert ["all", "2", "993", "-991", "2", "-", "-"] in rows
    assert "found: 2 slides\n" in done.out
    assert f"left out: 1 slide, frozen section (TS): {FROZEN}" in done.out
    assert f"{out}: 2 slides of 2 patients" in done.out
    assert [(row.slide_id, row.label, row.path) for row in read_labels(out)] == [
        (LUAD, "LUAD", tmp_path / "download" / "f0" / f"{LUAD}.svs"),
        (LUSC, "LUSC", tmp_path / "download" / "f1" / f"{LUSC}.svs"),
    ]
    assert run("cohort", "tcga-nsclc", sheet, "--frozen", "--out", out).status == 0
    assert len(read_labels(out)) == 3


def test_missing_doubled_and_unlabelled_slides_are_told_and_end_with_1(run, sheet, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    (more / f"{LUAD}.svs").write_bytes(b"again")
    (more / "CMU-1.svs").write_bytes(b"another")
    (tmp_path / "download" / "f1" / f"{LUSC}.svs").unlink()
    out = tmp_path / "labels.csv"
    command = ("cohort", "tcga-nsclc", sheet, "--slides", tmp_path / "download", "--slides", more, "--out", out)
    done = run(*command)
    assert done.status == 1
    assert "found: 1 slide\n" in done.out
    assert f"missing: 1 slide without a slide or feature file: {LUSC}" in done.out
    assert f"doubled: 1 slide in several files or rows: {LUAD} ({tmp_path / 'download'}" in done.out
    assert "unlabelled: 1 slide on disk that no table names: CMU-1" in done.out
    assert len(read_labels(out)) == 2
    facts = json.loads(run(*command, "--json").out)
    assert (facts["found"], facts["missing"], facts["unlabelled"]) == (1, [LUSC], ["CMU-1"])
    assert list(facts["doubled"]) == [LUAD]
    assert facts["left_out"] == {"frozen section (TS)": [FROZEN]}
    assert facts["classes"][1]["slides_difference"] == 1 - 486


def test_feature_files_are_slides_too(run, sheet, tmp_path):
    folder = tmp_path / "work" / "features" / "encoder"
    folder.mkdir(parents=True)
    for slide in (LUAD, LUSC):
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["features"] = np.zeros((1, 4), np.float32)
    out = tmp_path / "labels.csv"
    done = run("cohort", "tcga-nsclc", sheet, "--features", tmp_path / "work", "--out", out)
    assert (done.status, "found: 2 slides" in done.out) == (0, True)
    assert "path" not in out.read_text().splitlines()[0]


def test_pandas_table_is_compared_with_what_is_public(run, tmp_path):
    table, out = tmp_path / "train.csv", tmp_path / "labels.csv"
    table.write_text("image_id,data_provider,isup_grade,gleason_score\na,radboud,0,negative\nb,radboud,2,3+4\n")
    done = run("cohort", "panda", table, "--out", out)
    assert done.status == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["benign", "1", "1,644", "-1,643", "1", "-", "-", "2,892", "-2,891"] in rows
    assert ["all", "2", "5,846", "-5,844", "2", "-", "-", "10,616", "-10,614"] in rows
    assert "found: not looked for" in done.out
    assert "WARNING every slide is of one site (radboud)" in done.out
    assert "patient_id is the image id" in done.out


def test_an_image_that_cannot_be_right_is_refused_and_the_rest_written(run, tmp_path):
    table, out = tmp_path / "train.csv", tmp_path / "labels.csv"
    table.write_text("image_id,data_provider,isup_grade,gleason_score\na,radboud,0,negative\nb,radboud,7,3+4\n")
    done = run("cohort", "panda", table, "--out", out)
    assert done.status == 1
    assert f"refused: b: {table} row 3 has isup_grade '7'; expected 0 to 5: correct the row\n" in done.out
    assert out.read_text().splitlines()[1:] == ["a,a,benign,radboud,0,negative"]
    told = json.loads(run("cohort", "panda", table, "--out", out, "--json").out)
    assert list(told["refused"]) == ["b"]
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "b.tiff").touch()
    done = run("cohort", "panda", table, "--slides", tmp_path / "slides", "--out", out)
    assert done.status == 2
    assert "no slide with a file belongs to panda: 1 refused, such as 'b' (" in done.err
    table.write_text("image_id,data_provider,isup_grade,gleason_score\nb,radboud,7,3+4\n")
    done = run("cohort", "panda", table, "--out", out)
    assert done.status == 2
    assert "no slide belongs to panda: 1 refused, such as 'b' (" in done.err


def test_bad_requests_end_with_2_and_write_nothing(run, sheet, tmp_path):
    out = tmp_path / "new" / "labels.csv"
    other = tmp_path / "other.csv"
    other.write_text("slide_id,label\na,x\n")
    for arguments, told in (
        (("nsclc", sheet, "--out", out), "no cohort is called 'nsclc'; expected one of tcga-nsclc"),
        (("tcga-nsclc", "--out", out), "no table was named; expected"),
        (("tcga-nsclc", sheet), "nowhere to write was named; expected --out"),
        (("tcga-nsclc", sheet, "--out", tmp_path), "is a folder; expected a file to write"),
        (("tcga-nsclc", other, "--out", out), "has the columns slide_id, label; expected a GDC manifest"),
        (("tcga-brca", sheet, "--out", out), "no table tells the diagnosis of the slides for tcga-brca (3 found)"),
        (("tcga-rcc", sheet, "--out", out), "no slide belongs to tcga-rcc"),
        (("tcga-nsclc", sheet, "--slides", tmp_path / "gone", "--out", out), "gone does not exist"),
        (("panda", sheet, "--out", out), "is a GDC sample sheet; expected for panda"),
    ):
        done = run("cohort", *arguments)
        assert (done.status, done.out, told in done.err) == (2, "", True), (arguments, done)
        assert len(done.err.splitlines()) == 1
    assert not out.parent.exists()


def test_a_table_to_read_is_not_written_over(run, sheet):
    before = sheet.read_bytes()
    done = run("cohort", "tcga-nsclc", sheet, "--out", sheet)
    assert (done.status, "is one of the tables to read" in done.err) == (2, True)
    assert sheet.read_bytes() == before
