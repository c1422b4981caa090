"""Slides of TCGA: their names tell patient, site, sample and kind; the tables tell project and diagnosis."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from dtcwsi.barcodes import Barcode, barcode_of
from dtcwsi.cohorts.definitions import CohortClass, CohortDefinition
from dtcwsi.cohorts.judged import CohortRow, Judged, check_kinds, rows_of
from dtcwsi.cohorts.tables import ListedFile, SourceTables
from dtcwsi.errors import CohortError

__all__ = ["judge_tcga"]

_KINDS = ("a GDC manifest", "a GDC sample sheet", "a GDC clinical table", "clinical data of cBioPortal")
_SLIDE_IMAGE = ".svs"
_DIAGNOSTIC, _FROZEN = "DX", ("TS", "BS", "MS")  # top, bottom and middle of the frozen sample
_PRIMARY_TUMOUR = "01"


@dataclass(frozen=True)
class _Verdict:
    """The class a slide belongs to, or why it belongs to none."""

    found: CohortClass | None
    reason: str = ""


def judge_tcga(
    definition: CohortDefinition, tables: SourceTables, on_disk: Iterable[str], *, frozen: bool = False
) -> Judged:
    """Judge the slides that manifests and sample sheets list, and those on disk whose case a table names.

    Only primary tumours (sample 01) and diagnostic slides (DX) are taken; with ``frozen`` frozen sections too. Where a
    cohort goes by diagnosis, a case with another one, or with those of several classes, is left out. A slide whose case
    is of several projects is refused.
    Raises: CohortError if the tables are PANDA's, or none tells what the classes go by.
    """
    check_kinds(tables.kinds, _KINDS, definition.name)
    listed, no_slides = _listed(tables)
    slides = sorted({*listed, *on_disk})
    projects, diagnoses, torn = tables.projects, tables.diagnoses, tables.torn(definition.projects)
    named = {*projects, *diagnoses}
    _check_told(definition, tables, len(slides), told=bool(projects if definition.told_by == "project" else diagnoses))
    rows: dict[str, CohortRow] = {}
    left_out = {name: f"no slide image ({PurePath(name).suffix or 'no suffix'})" for name in no_slides}
    unlabelled, refused = [], {}
    for slide in slides:
        code = barcode_of(slide)
        if slide not in listed and (code is None or code.patient not in named):
            unlabelled.append(slide)
            continue
        if code is None:
            left_out[slide] = "no TCGA barcode in the name"
            continue
        if code.patient in torn:
            refused[slide] = torn[code.patient]
            continue
        verdict = _verdict(definition, code, projects.get(code.patient, ""), diagnoses.get(code.patient, ()), frozen)
        if verdict.found is None:
            left_out[slide] = verdict.reason
        else:
            rows[slide] = CohortRow(slide, code.patient, verdict.found.label, code.site)
    return Judged(rows, left_out, tuple(unlabelled), dict(_doubled(listed)), refused)


def _listed(tables: SourceTables) -> tuple[dict[str, list[ListedFile]], list[str]]:
    """Sort the listed files: slides by id, and the names of others."""
    slides: dict[str, list[ListedFile]] = {}
    others = []
    for file in tables.files:
        if file.name.lower().endswith(_SLIDE_IMAGE):
            slides.setdefault(PurePath(file.name).stem, []).append(file)
        else:
            others.append(file.name)
    return slides, others


def _check_told(definition: CohortDefinition, tables: SourceTables, count: int, *, told: bool) -> None:
    if told:
        return
    if definition.told_by == "project":
        lacking = "a GDC sample sheet or clinical.tsv (cases with project_id)"
    else:
        lacking = "a GDC clinical.tsv (cases with primary_diagnosis) or cBioPortal's clinical data"
    got = ", ".join(f"{path} ({kind})" for path, kind in tables.kinds.items())
    raise CohortError(
        f"no table tells the {definition.told_by} of the slides for {definition.name} ({count} found); got {got}; "
        f"expected also {lacking}: name it too"
    )


def _verdict(
    definition: CohortDefinition, code: Barcode, project: str, diagnoses: tuple[str, ...], frozen: bool
) -> _Verdict:
    if project and project not in definition.projects:
        return _Verdict(None, f"of another project ({project})")
    unfit = _unfit(code, frozen)
    if unfit:
        return _Verdict(None, unfit)
    if definition.told_by == "project":
        found = next((one for one in definition.classes if project in one.projects), None)
        return _Verdict(found, "no table tells the project of its case")
    return _by_diagnosis(definition, diagnoses)


def _by_diagnosis(definition: CohortDefinition, diagnoses: tuple[str, ...]) -> _Verdict:
    """Several diagnoses are one where all name the same class, as those of two archives do."""
    if not diagnoses:
        return _Verdict(None, "no table tells the diagnosis of its case")
    class_of = {diagnosis: one for one in definition.classes for diagnosis in one.diagnoses}
    first = class_of.get(diagnoses[0].lower())
    if any(class_of.get(diagnosis.lower()) is not first for diagnosis in diagnoses):
        return _Verdict(None, f"several diagnoses ({'; '.join(sorted(diagnoses))})")
    return _Verdict(first, f"another diagnosis ({'; '.join(sorted(diagnoses))})")


def _unfit(code: Barcode, frozen: bool) -> str:
    """Say why the kind of slide or sample is not wanted; "" if it is."""
    slide = code.slide or ""
    if not slide or not code.sample:
        return "the name tells no sample or no kind of slide"
    if slide.startswith(_FROZEN) and not frozen:
        return f"frozen section ({slide[:2]})"
    if not slide.startswith((_DIAGNOSTIC, *_FROZEN)):
        return f"another kind of slide ({slide})"
    return "" if code.sample == _PRIMARY_TUMOUR else f"no primary tumour (sample {code.sample})"


def _doubled(listed: dict[str, list[ListedFile]]) -> Iterator[tuple[str, str]]:
    """Find slides in two rows of one table, or of two tables that give the archive's file other ids."""
    for slide, files in listed.items():
        tables = [file.table for file in files]
        if len(set(tables)) < len(tables) or len({file.file_id for file in files}) > 1:
            yield slide, rows_of(len(files), tables)
