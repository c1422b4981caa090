import re

import pytest

from dtcwsi.benchmark.tables.definitions import TABLES
from dtcwsi.benchmark.tables.paper import COHORTS, TABLE_1, TABLE_4, TABLE_5, TABLE_8, column_of
from dtcwsi.models import create_model


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_row_of_the_paper_has_a_model_that_can_be_made(table):
    assert list(table.rows) == list(table.paper)
    for what in table.rows.values():
        assert create_model(what.model, in_dim=16, n_classes=2, **what.options).n_classes == 2


def test_the_column_of_the_paper_is_that_of_the_classes():
    assert [column_of(names) for names in (("ILC", "idc"), ("LUAD", "LUSC"), ("a", "b"))] == [
        "tcga-brca",
        "tcga-nsclc",
        "tcga-nsclc",
    ]


def test_numbers_are_the_papers():
    assert TABLE_1["TransMIL"]["tcga-brca"] == {"acc": 95.6, "acc_std": 0.5, "auc": 96.4, "auc_std": 0.5}
    assert TABLE_1["Random Sampling"]["panda"] == {"acc": 71.6, "acc_std": 1.3, "auc": 72.1, "auc_std": 1.2}
    assert TABLE_8["r = 0.3"]["tcga-nsclc"] == {"acc": 90.4, "auc": 92.2}
    assert all(set(row) == set(COHORTS) for table in (TABLE_1, TABLE_4, TABLE_5, TABLE_8) for row in table.values())


def test_all_numbers_stand_in_the_paper(shared_data):
    """Line by line: the numbers of each row, in their order, are those of one line of the paper."""
    text = (shared_data.parent / "paper" / "dtc-wsi.txt").read_text()
    lines = [re.findall(r"\d+\.\d+", line) for line in text.replace("\\pm", " ").splitlines() if "\t" in line]
    for table, ahead in ((TABLE_1, 0), (TABLE_4, 0), (TABLE_8, 1), (TABLE_5, None)):
        for name, row in table.items():
            wanted = [f"{number:.1f}" for cohort in COHORTS for number in row[cohort].values()]
            found = [line[-len(wanted) :] if ahead is None else line[ahead:] for line in lines]
            assert wanted in found, name
