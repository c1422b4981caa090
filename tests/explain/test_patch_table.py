"""Patches as a table, in CSV and in Parquet."""

import builtins
import csv
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from dtcwsi.errors import UsageError
from dtcwsi.explain.fates import KEPT, MERGED, PRUNED, PatchFates, attention_percentile
from dtcwsi.explain.patch_table import check_table_format, write_patch_table

COORDS = np.array([[0, 0], [257, 0], [514, 257]])
ATTENTION = np.array([2 / 3, 1 / 3, 0.0])
FATES = PatchFates(
    np.array([KEPT, MERGED, PRUNED], np.int8),
    np.array([0, 1, 2]),
    np.array([0, 1, -1]),
    np.array([0, 1, 2]),
    ATTENTION,
    attention_percentile(ATTENTION),
    importance=np.array([0.5, 0.25, 0.25]),
    mass=np.array([0.5, 0.4, 0.0]),
)


def test_csv_and_parquet_hold_the_same(tmp_path):
    write_patch_table(tmp_path / "p.csv", COORDS, 256.5, FATES)
    write_patch_table(tmp_path / "p.parquet", COORDS, 256.5, FATES)
    table = parquet.read_table(tmp_path / "p.parquet")
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert table.column_names == list(rows[0])
    assert table.column("attention").to_pylist() == ATTENTION.tolist()
    for name in ("patch", "x", "y", "stage", "token"):
        assert [int(row[name]) for row in rows] == table.column(name).to_pylist()
    for name in ("size", "attention_percentile", "importance", "mass"):
        assert [float(row[name]) for row in rows] == table.column(name).to_pylist()
    assert [row["fate"] for row in rows] == table.column("fate").to_pylist() == ["kept", "merged", "pruned"]
    assert rows[0]["attention"] == "0.666667"


def test_importance_and_mass_are_left_out_where_patches_are_not_scored(tmp_path):
    write_patch_table(tmp_path / "p.csv", COORDS, 257.0, replace(FATES, importance=None, mass=None))
    header = (tmp_path / "p.csv").read_text().splitlines()[0]
    assert header == "patch,x,y,size,attention,attention_percentile,fate,stage,token"


def test_formats_that_cannot_be_written_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="got the table format 'xlsx'; expected one of csv, parquet"):
        check_table_format("xlsx")
    importing = builtins.__import__

    def without_pyarrow(name, *more, **most):
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'")
        return importing(name, *more, **most)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(UsageError, match=r"Parquet need a package.*pip install 'dtcwsi\[parquet\]', or take CSV"):
        check_table_format("parquet")
