import csv

import pytest

from dtcwsi.errors import CohortError
from dtcwsi.patches import GridParameters
from dtcwsi.tissue import TissueParameters

GRID = GridParameters(patch_size_px=64)


def _rows(path):
    with path.open(newline="") as file:
        return {row["slide_id"]: row for row in csv.DictReader(file)}


def _edit(path, slide_id, **values):
    rows = _rows(path)
    rows[slide_id].update(values)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[slide_id].keys())
        writer.writeheader()
        writer.writerows(rows.values())


@pytest.fixture
def table(tmp_path):
    return tmp_path / "out" / "slides.csv"


@pytest.fixture
def slides(make_slide):
    return [make_slide("a.tif"), make_slide("b.tif")]


def test_the_table_says_what_was_done_to_each_slide(extract, slides, table):
    extract(*slides, grid=GRID)
    row = _rows(table)["a"]
    expected = {"spacing_um": "0.5", "seg_spacing_um": "8", "saturation_threshold": "15", "parameters_from": "options"}
    assert {name: row[name] for name in expected} == expected
    assert (float(row["tissue_mm2"]), int(row["patches"])) == (
        pytest.approx(0.125, abs=0.01),
        pytest.approx(123, abs=8),
    )
    assert float(row["seconds_encode"]) > 0


def test_seconds_of_encoding_belong_to_an_encoder_and_to_these_patches(extract, slides, table):
    extract(*slides, grid=GRID)
    assert _rows(table)["a"]["encoder"] == "colour-texture"
    extract(*slides, grid=GRID, encoder=None)
    assert _rows(table)["a"]["encoder"] == "colour-texture"
    extract(slides[0], grid=GridParameters(patch_size_px=128), encoder=None)
    rows = _rows(table)
    assert [rows["a"][name] for name in ("encoder", "seconds_read", "seconds_encode")] == ["", "", ""]
    assert float(rows["a"]["seconds_tissue"]) > 0
    assert rows["b"]["encoder"] == "colour-texture"


def test_an_edited_row_is_obeyed_remembered_and_redoes_its_slide_alone(extract, slides, table):
    extract(*slides, grid=GRID)
    _edit(table, "b", min_tissue_um2="999999")
    second = extract(*slides, grid=GRID)
    assert (second.redone, list(second.empty)) == (["b"], ["b"])
    assert _rows(table)["b"]["parameters_from"] == "table"
    assert extract(*slides, grid=GRID).redone == []
    assert extract(*slides, grid=GRID, tissue=TissueParameters(saturation_threshold=20)).redone == ["a"]
    assert _rows(table)["b"]["saturation_threshold"] == "15"


def test_a_spreadsheet_that_rewrites_numbers_edits_nothing(extract, slides, table):
    extract(*slides, grid=GRID)
    _edit(table, "a", min_tissue_um2="6.0E+04", seg_spacing_um="8.00", median_um="56.0")
    assert extract(*slides, grid=GRID).redone == []
    assert _rows(table)["a"]["parameters_from"] == "options"


def test_numbers_with_many_digits_are_no_edit(extract, slides, table):
    odd = TissueParameters(min_tissue_um2=61_234.5678, median_um=56.0000001)
    extract(*slides, grid=GRID, tissue=odd)
    assert extract(*slides, grid=GRID, tissue=odd).redone == []
    assert extract(*slides, grid=GRID, tissue=TissueParameters()).redone == ["a", "b"]


def test_options_changed_by_a_run_that_died_are_no_edit(extract, slides, table):
    """Tissue files are newer than their rows when a run is killed between the two."""
    extract(*slides, grid=GRID)
    older = table.read_text()
    changed = TissueParameters(saturation_threshold=20)
    extract(*slides, grid=GRID, tissue=changed)
    table.write_text(older)
    assert extract(*slides, grid=GRID, tissue=changed).redone == []
    assert _rows(table)["a"]["saturation_threshold"] == "20"


def test_a_deleted_table_or_row_goes_back_to_the_options(extract, slides, table):
    extract(*slides, grid=GRID)
    _edit(table, "a", saturation_threshold="25")
    extract(*slides, grid=GRID)
    table.unlink()
    assert extract(*slides, grid=GRID).redone == ["a"]
    assert list(_rows(table)) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "row 'a': median_um is 'abc'; expected a number: correct the row or delete it"),
        ("", "row 'a': median_um is ''; expected a number"),
        ("-5", "row 'a': median_um is -5; expected a positive number"),
        ("nan", "row 'a': median_um is nan; expected a positive number"),
    ],
)
def test_a_row_edited_into_nonsense_fails_its_slide_alone(extract, slides, table, value, message):
    extract(*slides, grid=GRID)
    _edit(table, "a", median_um=value)
    summary = extract(*slides, grid=GRID)
    assert [failure[:2] for failure in summary.failed] == [("a", "tables")]
    assert message in summary.failed[0][2]
    assert list(summary.results) == ["b"]


def test_a_table_saved_with_semicolons_stops_the_run_before_any_work(extract, slides, table):
    extract(*slides, grid=GRID)
    table.write_text(table.read_text().replace(",", ";"))
    with pytest.raises(CohortError, match="slides.csv has the columns .*comma-separated: restore the header"):
        extract(*slides, grid=GRID)
