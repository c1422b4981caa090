import pytest

from dtcwsi.cohorts.definitions import COHORTS, cohort_definition
from dtcwsi.errors import UnknownNameError


def test_counts_are_those_of_section_3_1():
    slides = {name: {one.label: one.slides for one in cohort.classes} for name, cohort in COHORTS.items()}
    assert slides == {
        "tcga-nsclc": {"LUAD": 507, "LUSC": 486},
        "tcga-brca": {"IDC": 772, "ILC": 166},
        "tcga-rcc": {"CRCC": 111, "CCRCC": 489, "PRCC": 284},
        "panda": {"benign": 1644, "cancerous": 4202},
    }
    totals = {name: sum(counts.values()) for name, counts in slides.items()}
    assert totals == {"tcga-nsclc": 993, "tcga-brca": 938, "tcga-rcc": 884, "panda": 1644 + 4202}
    assert [one.patients for one in COHORTS["tcga-rcc"].classes] == [99, 483, 264]
    assert sum(one.public_slides for one in COHORTS["panda"].classes) == 10_616  # all of the public train.csv


@pytest.mark.parametrize("cohort", COHORTS.values(), ids=COHORTS)
def test_classes_exclude_one_another(cohort):
    told = {"project": "projects", "diagnosis": "diagnoses", "grade": "grades"}[cohort.told_by]
    by = [value for one in cohort.classes for value in getattr(one, told)]
    assert by
    assert len(by) == len(set(by))


def test_an_unknown_name_lists_all():
    with pytest.raises(UnknownNameError, match=r"no cohort is called 'tcga-luad'; expected one of tcga-nsclc, .*panda"):
        cohort_definition("tcga-luad")
