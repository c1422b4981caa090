"""The paper's four cohorts as data: classes, what tells them, and how many slides there should be."""

from dataclasses import dataclass
from typing import Literal

from dtcwsi.errors import UnknownNameError

__all__ = ["COHORTS", "CohortClass", "CohortDefinition", "cohort_definition"]


@dataclass(frozen=True)
class CohortClass:
    """One class: its ``label``, a ``title`` in words, and the paper's number of ``slides`` and ``patients``.

    A slide belongs to it by one of ``projects`` of the GDC, of ``diagnoses`` (lower case) or of ISUP ``grades``; of a
    class with diagnoses the project must fit as well where it is known. ``public_slides`` counts those that were ever
    published, where the paper has others. None is a number that nobody states.
    """

    label: str
    title: str
    slides: int
    patients: int | None = None
    projects: tuple[str, ...] = ()
    diagnoses: tuple[str, ...] = ()
    grades: tuple[int, ...] = ()
    public_slides: int | None = None


@dataclass(frozen=True)
class CohortDefinition:
    """A cohort: its classes, and whether a project, a diagnosis or a grade tells them apart.

    ``note`` is what a reader of its counts must know.
    """

    name: str
    told_by: Literal["project", "diagnosis", "grade"]
    classes: tuple[CohortClass, ...]
    note: str = ""

    @property
    def projects(self) -> tuple[str, ...]:
        """The GDC's projects that it is drawn from."""
        return tuple(dict.fromkeys(project for one in self.classes for project in one.projects))


# Counts: the paper, Section 3.1. Diagnoses: `primary_diagnosis` of the GDC's data dictionary, and
# CANCER_TYPE_DETAILED of cBioPortal's TCGA studies (names of OncoTree).
COHORTS = {
    cohort.name: cohort
    for cohort in (
        CohortDefinition(
            "tcga-nsclc",
            "project",
            (
                CohortClass("LUAD", "lung adenocarcinoma", 507, projects=("TCGA-LUAD",)),
                CohortClass("LUSC", "lung squamous cell carcinoma", 486, projects=("TCGA-LUSC",)),
            ),
        ),
        CohortDefinition(
            "tcga-brca",
            "diagnosis",
            (
                CohortClass(
                    "IDC",
                    "invasive ductal carcinoma of the breast",
                    772,
                    projects=("TCGA-BRCA",),
                    diagnoses=("infiltrating duct carcinoma, nos", "breast invasive ductal carcinoma"),
                ),
                CohortClass(
                    "ILC",
                    "invasive lobular carcinoma of the breast",
                    166,
                    projects=("TCGA-BRCA",),
                    diagnoses=("lobular carcinoma, nos", "breast invasive lobular carcinoma"),
                ),
            ),
        ),
        CohortDefinition(
            "tcga-rcc",
            "project",
            (
                CohortClass("CRCC", "chromophobe renal cell carcinoma", 111, 99, projects=("TCGA-KICH",)),
                CohortClass("CCRCC", "clear cell renal cell carcinoma", 489, 483, projects=("TCGA-KIRC",)),
                CohortClass("PRCC", "papillary renal cell carcinoma", 284, 264, projects=("TCGA-KIRP",)),
            ),
        ),
        CohortDefinition(
            "panda",
            "grade",
            (
                CohortClass("benign", "prostate biopsy of ISUP grade 0", 1644, grades=(0,), public_slides=2892),
                CohortClass(
                    "cancerous",
                    "prostate biopsy of ISUP grade 1 to 5",
                    4202,
                    grades=(1, 2, 3, 4, 5),
                    public_slides=7724,
                ),
            ),
            note=(
                "the paper counts sets that were never public; patients are not public: patient_id is the image id, "
                "so that slides of one patient may be in several folds"
            ),
        ),
    )
}


def cohort_definition(name: str) -> CohortDefinition:
    """Look a cohort up.  Raises: UnknownNameError if none has this name."""
    if name not in COHORTS:
        raise UnknownNameError(f"no cohort is called {name!r}; expected one of {', '.join(COHORTS)}")
    return COHORTS[name]
