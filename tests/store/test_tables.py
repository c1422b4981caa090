import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from dtcwsi.errors import CohortError
from dtcwsi.store.tables import SlideTable, read_table


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


def test_rows_of_many_writers_at_once_are_all_there(tmp_path):
    """Each writer is a table of its own, as in processes; the folder's lock is the operating system's."""

    def write(writer):
        table = SlideTable(tmp_path / "t.csv", ("n",))
        for number in range(10):
            table.put(f"{writer}-{number}", n=number)
        for number in range(0, 10, 2):
            table.drop(f"{writer}-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    expected = {f"{writer}-{number}" for writer in range(4) for number in (1, 3, 5, 7, 9)}
    assert set(SlideTable(tmp_path / "t.csv", ("n",)).read()) == expected


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


def test_the_separator_is_the_headers_and_comments_before_it_do_not_count(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("# of, commas\n\n#\na\tb\n1\t2,3\n# no, comment\t4\n")
    table = read_table(path, expected="a,b", separator=None, comment="#")
    assert table.rows == [(5, {"a": "1", "b": "2,3"}), (6, {"a": "# no, comment", "b": "4"})]
    path.write_text("a,b\n1,2\t3\n")
    assert read_table(path, expected="a,b", separator=None).rows == [(2, {"a": "1", "b": "2\t3"})]


def test_of_columns_with_one_name_the_first_counts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,a\n1,2,3\n")
    table = read_table(path, expected="a,b")
    assert (table.header, table.rows) == (["a", "b", "a"], [(2, {"a": "1", "b": "2"})])
