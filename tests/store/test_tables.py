import os

import pytest

from dtcwsi.errors import CohortError
from dtcwsi.store.tables import SlideTable


@pytest.fixture
def table(tmp_path):
    return SlideTable(tmp_path / "t.csv", ("path", "n"))


def test_rows_are_sorted_replaced_and_dropped(table):
    for slide_id in ("b", "a", "b"):
        table.put(slide_id, path=f"/x, {slide_id}", n=0.1 + 0.2)
    assert table.path.read_text() == 'slide_id,path,n\na,"/x, a",0.3\nb,"/x, b",0.3\n'
    table.drop("a")
    table.drop("never there")
    assert list(SlideTable(table.path, ("path", "n")).read()) == ["b"]


def test_a_row_that_stands_there_is_not_written_again(table):
    table.put("a", path="x", n=1)
    before = table.path.stat()
    table.put("a", path="x", n=1)
    assert (table.path.stat().st_ino, table.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_others_write_meanwhile_is_seen(table):
    table.put("a", path="x", n=1)
    SlideTable(table.path, ("path", "n")).put("b", path="y", n=2)
    assert list(table.read()) == ["a", "b"]
    table.put("c", path="z", n=3)
    assert list(SlideTable(table.path, ("path", "n")).read()) == ["a", "b", "c"]


def test_a_column_that_a_person_added_stays(table):
    table.path.write_text("﻿slide_id,path,n,remark\na,x,1,blurred\nb,y,2,\n", encoding="utf-8")
    table.put("a", path="x", n=5)
    assert table.path.read_text() == "slide_id,path,n,remark\na,x,5,blurred\nb,y,2,\n"


def test_a_file_name_that_is_no_utf8_survives(table):
    name = os.fsdecode(b"m\xfcller")
    table.put(name, path=f"/{name}.svs", n=1)
    assert b"m\xfcller.svs" in table.path.read_bytes()
    assert list(SlideTable(table.path, ("path", "n")).read()) == [name]


@pytest.mark.parametrize("text", ["slide_id;path;n\na;x;1\n", "", "\x00\x01"])
def test_a_table_without_its_columns_is_refused(table, text):
    table.path.write_text(text)
    with pytest.raises(CohortError, match=r"t.csv has the columns .*; expected slide_id, path, n, comma-separated"):
        table.read()
