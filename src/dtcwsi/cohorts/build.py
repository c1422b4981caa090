"""A cohort from its tables and files: who is in, what is missing or doubled, how far from the paper's counts."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dtcwsi.cohorts.definitions import CohortDefinition
from dtcwsi.cohorts.judged import CohortRow, Judged
from dtcwsi.cohorts.panda import judge_panda
from dtcwsi.cohorts.tables import SourceTables
from dtcwsi.cohorts.tcga import judge_tcga
from dtcwsi.errors import CohortError, UsageError
from dtcwsi.store.atomic import write_text
from dtcwsi.store.tables import csv_text

__all__ = ["BuiltCohort", "ClassCount", "FilesOnDisk", "build_cohort", "write_labels"]

_COLUMNS = ("slide_id", "patient_id", "label", "site")


@dataclass(frozen=True)
class FilesOnDisk:
    """Slide files and feature files by slide id, several where a name is doubled; None where nobody looked."""

    slides: Mapping[str, tuple[Path, ...]] | None = None
    features: Mapping[str, Path] | None = None

    @property
    def ids(self) -> set[str]:
        """Every slide of which there is a file."""
        return {*(self.slides or {}), *(self.features or {})}

    @property
    def looked(self) -> bool:
        """Whether files were looked for at all."""
        return self.slides is not None or self.features is not None


@dataclass(frozen=True)
class ClassCount:
    """Slides and patients of one class beside those of the paper, and slides of what is public; None: not stated."""

    label: str
    title: str
    slides: int
    patients: int
    paper_slides: int
    paper_patients: int | None
    public_slides: int | None


@dataclass(frozen=True)
class BuiltCohort:
    """A cohort's slides, by id, and what there is to know about them.

    ``paths`` has the slide files that were found. ``missing`` are slides without a slide or feature file (None if
    nobody looked), ``doubled`` tells what is doubled of a slide, ``unlabelled`` have a file and no table names them,
    ``left_out`` are slides by reason, the most frequent first; ``refused`` gives the reason of slides whose rows cannot
    be right; ``warnings`` are sentences.
    """

    definition: CohortDefinition
    rows: tuple[CohortRow, ...]
    counts: tuple[ClassCount, ...]
    paths: Mapping[str, Path] = field(default_factory=dict)
    missing: tuple[str, ...] | None = None
    doubled: Mapping[str, str] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, doubled or refused."""
        return not (self.missing or self.doubled or self.refused)


def build_cohort(
    definition: CohortDefinition, tables: SourceTables, files: FilesOnDisk, *, frozen: bool = False
) -> BuiltCohort:
    """Draw a cohort from tables and compare it with the files that are there.

    Slides whose files are missing stay in it. Of a doubled file the path that sorts first is taken.
    Raises: CohortError if the tables do not fit the cohort, no slide of it is left, or none has a file; UsageError if
    ``frozen`` means nothing here.
    """
    if definition.told_by == "grade":
        if frozen:
            raise UsageError(f"--frozen is of TCGA's slides; {definition.name} has none: leave it out")
        judged = judge_panda(definition, tables, files.ids)
    else:
        judged = judge_tcga(definition, tables, files.ids, frozen=frozen)
    _check_any(definition, judged, files)
    slides = files.slides or {}
    doubled_files = {slide: ", ".join(map(str, paths)) for slide, paths in slides.items() if len(paths) > 1}
    doubled = {
        slide: "; ".join(each[slide] for each in (judged.doubled, doubled_files) if slide in each)
        for slide in judged.rows
        if slide in judged.doubled or slide in doubled_files
    }
    rows = tuple(judged.rows.values())
    counts = _counts(definition, rows)
    return BuiltCohort(
        definition,
        rows,
        counts,
        {slide: slides[slide][0] for slide in judged.rows if slide in slides},
        tuple(slide for slide in judged.rows if slide not in files.ids) if files.looked else None,
        doubled,
        judged.unlabelled,
        _by_reason(judged.left_out),
        judged.refused,
        tuple(_warnings(rows, counts)),
    )


def write_labels(cohort: BuiltCohort, path: Path) -> None:
    """Write the labels table, whole or not at all: one row a slide, with paths if any slide file was found.

    Paths are relative to the table's folder where they lie below it, else absolute.
    Raises: StoreError if it cannot be written.
    """
    further = list(dict.fromkeys(column for row in cohort.rows for column in row.further))
    columns = [*_COLUMNS, *(["path"] if cohort.paths else []), *further]
    table = []
    for row in cohort.rows:
        cells = {column: getattr(row, column) for column in _COLUMNS} | dict(row.further)
        if row.slide_id in cohort.paths:
            cells["path"] = _seen_from(path.parent, cohort.paths[row.slide_id])
        table.append(cells)
    write_text(path, csv_text(table, columns))


def _seen_from(folder: Path, file: Path) -> str:
    below, whole = Path(os.path.abspath(folder)), Path(os.path.abspath(file))
    return str(whole.relative_to(below) if whole.is_relative_to(below) else whole)


def _check_any(definition: CohortDefinition, judged: Judged, files: FilesOnDisk) -> None:
    if not judged.rows:
        raise CohortError(_why_none(definition, judged))
    if files.looked and not files.ids & judged.rows.keys():
        if files.ids & judged.refused.keys():
            raise CohortError(_why_none(definition, judged))
        raise CohortError(
            f"none of the {len(judged.rows)} slides of {definition.name}, such as {next(iter(judged.rows))!r}, has a "
            f"slide or feature file; got {len(files.ids)} named otherwise, such as {min(files.ids, default='')!r}; "
            "expected files named after the slides: name the folder that holds them"
        )


def _why_none(definition: CohortDefinition, judged: Judged) -> str:
    found = f"no slide belongs to {definition.name}"
    expected = f"expected slides of {' and '.join(one.label for one in definition.classes)}"
    if judged.refused:
        slide, why = next(iter(judged.refused.items()))
        found = f"no slide with a file belongs to {definition.name}" if judged.rows else found
        return f"{found}: {len(judged.refused)} refused, such as {slide!r} ({why})"
    if judged.left_out:
        reason, slides = next(iter(_by_reason(judged.left_out).items()))
        return (
            f"{found}: {len(judged.left_out)} are left out, {len(slides)} of them because: {reason}; {expected}; "
            "name the tables of these slides"
        )
    if judged.unlabelled:
        return (
            f"{found}: no table names what is on disk ({len(judged.unlabelled)}, such as {judged.unlabelled[0]!r}); "
            f"{expected}; name the tables of these slides"
        )
    return f"{found}: the tables list no slide; {expected}; add a manifest or sample sheet, or --slides"


def _by_reason(left_out: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    slides: dict[str, list[str]] = {}
    for slide, reason in left_out.items():
        slides.setdefault(reason, []).append(slide)
    return {reason: tuple(found) for reason, found in sorted(slides.items(), key=lambda item: (-len(item[1]), item[0]))}


def _counts(definition: CohortDefinition, rows: tuple[CohortRow, ...]) -> tuple[ClassCount, ...]:
    slides = Counter(row.label for row in rows)
    patients = Counter(label for label, _ in {(row.label, row.patient_id) for row in rows})
    return tuple(
        ClassCount(
            one.label,
            one.title,
            slides[one.label],
            patients[one.label],
            one.slides,
            one.patients,
            one.public_slides,
        )
        for one in definition.classes
    )


def _warnings(rows: tuple[CohortRow, ...], counts: tuple[ClassCount, ...]) -> list[str]:
    found = [f"no slide is of class {one.label}: its tables or slides are lacking" for one in counts if not one.slides]
    sites = {row.site for row in rows}
    if len(sites) == 1:
        found.append(
            f"every slide is of one site ({min(sites)}): nothing tells how a model does elsewhere, and "
            "--group site cannot be used"
        )
    return found
