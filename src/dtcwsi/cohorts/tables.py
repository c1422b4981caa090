"""Tables of archives, told apart by their columns: the GDC's, cBioPortal's, PANDA's.

Columns after: the GDC Data Transfer Tool's user's guide, "Preparing for Data Download and Upload" (manifest);
sample_sheet and clinical.tsv as the GDC Data Portal writes them, the latter after "Appendix A: Available Fields" of the
GDC API's guide, plain until 2024 and dotted since; docs.cbioportal.org/file-formats, "Clinical Data"; the data page of
the Kaggle competition prostate-cancer-grade-assessment.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from dtcwsi.barcodes import barcode_of
from dtcwsi.errors import CohortError
from dtcwsi.store.tables import Table, read_table

__all__ = ["CaseFact", "GradedImage", "ListedFile", "SourceTables", "read_source_tables"]

_EXPECTED = (
    "a GDC manifest (id, filename, md5, ...), a GDC sample sheet (File ID, File Name, Project ID, Case ID, ...), a GDC "
    "clinical.tsv (case_submitter_id, project_id, primary_diagnosis, ...), clinical data of cBioPortal (PATIENT_ID, "
    "CANCER_TYPE_DETAILED, ...) or PANDA's train.csv (image_id, data_provider, isup_grade, gleason_score)"
)
_NOTHING = {"", "'--", "--", "na", "nan", "n/a", "none", "not reported", "unknown", "not available", "[not available]"}
_PACKED = {b"\x1f\x8b": "a gzip archive", b"PK": "a zip archive or a workbook"}
_COLUMNS_SHOWN = 6

# In 2019 the GDC wrote several columns submitter_id, the case's first, and an empty case_submitter_id behind them.
_CASE = ("case_submitter_id", "cases.submitter_id", "submitter_id")
_PROJECT = ("project_id", "project.project_id")
_DIAGNOSIS = ("primary_diagnosis", "diagnoses.primary_diagnosis")
_IS_PRIMARY = ("diagnosis_is_primary_disease", "diagnoses.diagnosis_is_primary_disease")
_PATIENT = ("PATIENT_ID", "Patient ID")
_DETAILED = ("CANCER_TYPE_DETAILED", "Cancer Type Detailed")
_ACRONYM = ("CANCER_TYPE_ACRONYM", "TCGA PanCanAtlas Cancer Type Acronym")


@dataclass(frozen=True)
class ListedFile:
    """A file that a manifest or sample sheet lists: its ``name``, the archive's id of it, and the table."""

    name: str
    file_id: str
    table: Path


@dataclass(frozen=True)
class CaseFact:
    """What one row says of a case (a patient): a project, a diagnosis, or both; "" is not told."""

    case: str
    project: str
    diagnosis: str
    table: Path


@dataclass(frozen=True)
class GradedImage:
    """A row of PANDA's train.csv; ``row`` is its line in an editor, ``grade`` what it has there, which may be none."""

    image_id: str
    provider: str
    grade: str
    gleason: str
    table: Path
    row: int


@dataclass(frozen=True)
class SourceTables:
    """All that some tables say.  ``kinds`` names each table's kind, by its path."""

    kinds: dict[Path, str]
    files: tuple[ListedFile, ...] = ()
    cases: tuple[CaseFact, ...] = ()
    images: tuple[GradedImage, ...] = ()

    @property
    def projects(self) -> dict[str, str]:
        """The project of every case that has one, the first of several."""
        return {case: facts[0].project for case, facts in self._facts_of_projects.items()}

    def torn(self, among: Collection[str]) -> dict[str, str]:
        """Give cases of several projects, one of ``among`` or more, with the sentence that says so."""
        told = {}
        for case, (first, *others) in self._facts_of_projects.items():
            other = next((fact for fact in others if fact.project != first.project), None)
            if other is not None and not {first.project, *(fact.project for fact in others)}.isdisjoint(among):
                told[case] = (
                    f"case {case} is of project {first.project} in {first.table} and of {other.project} in "
                    f"{other.table}; expected one project a case: correct the rows"
                )
        return told

    @property
    def _facts_of_projects(self) -> dict[str, list[CaseFact]]:
        facts: dict[str, list[CaseFact]] = {}
        for fact in self.cases:
            if fact.project:
                facts.setdefault(fact.case, []).append(fact)
        return facts

    @property
    def diagnoses(self) -> dict[str, tuple[str, ...]]:
        """The different diagnoses of every case that has any, in the tables' order."""
        told: dict[str, dict[str, str]] = {}
        for fact in self.cases:
            if fact.diagnosis:
                told.setdefault(fact.case, {}).setdefault(fact.diagnosis.lower(), fact.diagnosis)
        return {case: tuple(names.values()) for case, names in told.items()}


def read_source_tables(paths: Iterable[Path]) -> SourceTables:
    """Read tables of any of the kinds, each recognised by its columns.

    Missing values (the GDC's ``'--``) count as not told; of several diagnoses those count that the GDC marks as the
    primary disease, where it marks any.
    Raises: CohortError if a table is of another kind, cannot be read, or a row contradicts itself.
    """
    read = [_read(path) for path in dict.fromkeys(paths)]
    return SourceTables(
        {path: kind for one in read for path, kind in one.kinds.items()},
        tuple(file for one in read for file in one.files),
        tuple(case for one in read for case in one.cases),
        tuple(image for one in read for image in one.images),
    )


def _read(path: Path) -> SourceTables:
    _check_unpacked(path)
    table = read_table(path, expected=_EXPECTED, separator=None, comment="#")
    there = set(table.header)
    for kind, needed, read in _KINDS:
        if all(there & set(names) for names in needed):
            return read(path, table, kind)
    shown = ", ".join(table.header[:_COLUMNS_SHOWN]) + (" ..." if len(table.header) > _COLUMNS_SHOWN else "")
    raise CohortError(f"{path} has the columns {shown}; expected {_EXPECTED}; name a table of these instead")


def _check_unpacked(path: Path) -> None:
    """Refuse what downloads come in.  Raises: CohortError if the file is an archive or JSON."""
    try:
        with path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise CohortError(f"{path} cannot be read: {error.strerror}; expected {_EXPECTED}") from error
    packed = next((what for sign, what in _PACKED.items() if start.startswith(sign)), None)
    if packed:
        raise CohortError(f"{path} is {packed}; expected a table as text: unpack it and name the table inside")
    if start[:1] in (b"[", b"{"):
        raise CohortError(f"{path} is JSON; expected a table: download it from the archive as TSV")


def _manifest(path: Path, table: Table, kind: str) -> SourceTables:
    return SourceTables({path: kind}, files=tuple(ListedFile(r["filename"], r["id"], path) for _, r in table.rows))


def _sample_sheet(path: Path, table: Table, kind: str) -> SourceTables:
    """Files with several cases, as pooled or paired analyses have, tell the project of each."""
    cases = []
    for number, row in table.rows:
        named = {case.strip().upper() for case in row["Case ID"].split(",")}
        code = barcode_of(row["File Name"])
        if code is not None and code.patient not in named:
            raise CohortError(
                f"{path} row {number} gives the file {row['File Name']!r} the case {row['Case ID']!r}; expected "
                f"{code.patient}, as its name says: download the sheet again or correct the row"
            )
        projects = {project.strip() for project in row["Project ID"].split(",")}
        if len(projects) == 1:
            cases += [CaseFact(case, _told(*projects), "", path) for case in sorted(named)]
    files = tuple(ListedFile(row["File Name"], row["File ID"], path) for _, row in table.rows)
    return SourceTables({path: kind}, files, tuple(dict.fromkeys(cases)))


def _clinical(path: Path, table: Table, kind: str) -> SourceTables:
    case, project = _column(table, _CASE), _column(table, _PROJECT)
    diagnosis, primary = _column(table, _DIAGNOSIS), _column(table, _IS_PRIMARY)
    marked = {row[case] for _, row in table.rows if row.get(primary, "").lower() == "true"}
    facts = []
    for _, row in table.rows:
        counts = row[case] not in marked or row[primary].lower() == "true"
        told = _told(row.get(diagnosis, "")) if counts else ""
        facts.append(CaseFact(row[case].upper(), _told(row[project]), told, path))
    return SourceTables({path: kind}, cases=tuple(dict.fromkeys(facts)))


def _cbioportal(path: Path, table: Table, kind: str) -> SourceTables:
    case, diagnosis, acronym = _column(table, _PATIENT), _column(table, _DETAILED), _column(table, _ACRONYM)
    facts = []
    for _, row in table.rows:
        project = _told(row.get(acronym, ""))
        told = _told(row.get(diagnosis, ""))
        facts.append(CaseFact(row[case].upper(), f"TCGA-{project.upper()}" if project else "", told, path))
    return SourceTables({path: kind}, cases=tuple(dict.fromkeys(facts)))


def _panda(path: Path, table: Table, kind: str) -> SourceTables:
    images = tuple(
        GradedImage(
            row["image_id"], row["data_provider"], _whole(row["isup_grade"]), row["gleason_score"], path, number
        )
        for number, row in table.rows
    )
    return SourceTables({path: kind}, images=images)


def _whole(cell: str) -> str:
    """Take a whole number as pandas writes a column with gaps: 2.0 is 2."""
    return cell.removesuffix(".0")


def _column(table: Table, names: tuple[str, ...]) -> str:
    """Find the first column that has one of some names; "" if none has."""
    return next((name for name in table.header if name in names), "")


def _told(cell: str) -> str:
    return "" if cell.lower() in _NOTHING else cell


_Reader = Callable[[Path, Table, str], SourceTables]
# A table is of the first kind of which it has, in each group, one of the columns.
_KINDS: tuple[tuple[str, tuple[tuple[str, ...], ...], _Reader], ...] = (
    ("PANDA's train.csv", (("image_id",), ("data_provider",), ("isup_grade",), ("gleason_score",)), _panda),
    ("a GDC sample sheet", (("File ID",), ("File Name",), ("Project ID",), ("Case ID",)), _sample_sheet),
    ("a GDC manifest", (("id",), ("filename",), ("md5",)), _manifest),
    ("a GDC clinical table", (_CASE, _PROJECT), _clinical),
    ("clinical data of cBioPortal", (_PATIENT, (*_DETAILED, *_ACRONYM)), _cbioportal),
)
