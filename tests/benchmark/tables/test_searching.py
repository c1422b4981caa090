import json
from dataclasses import replace

import pytest

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables.definitions import TABLES, Configuration, Table
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.page import write_table_files
from dtcwsi.benchmark.tables.shelf import Shelf
from dtcwsi.errors import OptionError
from dtcwsi.training.search import Search, values_of

from .conftest import QUICK

SPACE = Search({"hidden": values_of("hidden", "4,8"), "lam": values_of("lam", "0:1")}, trials=2)
ROWS = {
    "open": Configuration("abmil"),
    "fixed": Configuration("abmil", {"hidden": 16}),
    "both": Configuration("dtc-abmil", {"retention": 0.4}),
}


def test_each_row_is_searched_over_what_it_leaves_open(quick, tmp_path):
    table = Table("A search", ROWS, {row: {} for row in ROWS}, metrics=("acc",))
    shelf = Shelf(tmp_path / "runs", read_cohort(*quick), replace(QUICK, search=SPACE))
    told = make_table("table9", table, [shelf], beside="panda", cohort="tiny")
    found = {row.name: [sorted(one.split(": ")[1].split()[::2]) for one in row.searched] for row in told.rows}
    assert found == {"open": [["hidden"]] * 2, "fixed": [], "both": [["hidden", "lam"]] * 2}
    plain = Shelf(tmp_path / "runs", shelf.cohort, QUICK)
    assert [plain.place(what, 0) == shelf.place(what, 0) for what in ROWS.values()] == [False, True, False]
    paths = write_table_files(told, tmp_path, command="")
    page = paths[2].read_text()
    assert "2 trainings each, of what a model has and its row leaves open: hidden 4 | 8; lam 0 to 1." in page
    assert "* open by its search: seed 0, fold 0: hidden" in page
    told = json.loads(paths[1].read_text())
    assert told["protocol"]["search"] == {"space": {"hidden": "4 | 8", "lam": "0 to 1"}, "trials": 2}
    assert [len(row["searched"]) for row in told["rows"]] == [2, 0, 2]


def test_what_no_row_leaves_open_cannot_be_searched():
    TABLES["table2"].check_search(SPACE)
    with pytest.raises(OptionError, match="got a search over 'retention', which no row .* near options: "):
        TABLES["table2"].check_search(Search({"retention": values_of("retention", "0.2:0.4")}))
    with pytest.raises(OptionError, match="got a search over 'retention', which no row"):
        TABLES["table5"].check_search(Search({"retention": values_of("retention", "0.2:0.4")}))
    with pytest.raises(OptionError, match="got lam=-5"):
        TABLES["table1"].check_search(Search({"lam": values_of("lam", "-5:1")}))
    with pytest.raises(OptionError, match="got lr=-1"):
        TABLES["table1"].check_search(Search({"lr": values_of("lr", "-1:1")}))
