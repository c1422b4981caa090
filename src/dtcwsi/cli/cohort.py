"""``dtcwsi cohort``: the paper's cohorts as labels tables, from what their archives give."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dtcwsi.cli.console import count, print_json, print_table, some
from dtcwsi.cli.options import Json
from dtcwsi.errors import UsageError

if TYPE_CHECKING:
    from dtcwsi.cohorts.build import BuiltCohort, FilesOnDisk

__all__ = ["run"]

_REFUSED_SHOWN = 10


def run(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="tcga-nsclc, tcga-brca, tcga-rcc or panda.", show_default=False)
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILES...",
            help="GDC manifests, sample sheets and clinical.tsv, cBioPortal's clinical data, PANDA's train.csv, mixed.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The labels table to write.", show_default=False)] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option("--slides", help="Slide files, or folders of them or of their folders.", show_default=False),
    ] = None,
    features: Annotated[Path | None, typer.Option("--features", help="Feature files.", show_default=False)] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Take frozen sections of the tumour beside diagnostic slides.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the cohorts with the paper's counts.")] = False,
    as_json: Json = False,
) -> int:
    """Make the labels table of one of the paper's cohorts; status 1 if slides are missing, doubled or refused.

    Without NAME the cohorts are listed. The report sets slides and patients of each class beside the paper's.
    """
    if name is None or listing:
        _list(as_json=as_json)
        return 0
    from dtcwsi.cohorts.build import build_cohort, write_labels
    from dtcwsi.cohorts.definitions import cohort_definition
    from dtcwsi.cohorts.tables import read_source_tables

    definition = cohort_definition(name)
    target = _target(out, tables)
    files = _files(slides, features)
    cohort = build_cohort(definition, read_source_tables(tables or []), files, frozen=frozen)
    write_labels(cohort, target)
    if as_json:
        print_json(_facts(cohort, target))
    else:
        _tell(cohort, target)
    return 0 if cohort.complete else 1


def _target(out: Path | None, tables: list[Path] | None) -> Path:
    """Where to write.  Raises: UsageError if there is nothing to read or nowhere to write."""
    from dtcwsi.store.atomic import check_new_file

    if not tables:
        raise UsageError("no table was named; expected the archive's tables after the cohort, as `--help` lists them")
    if out is None:
        raise UsageError("nowhere to write was named; expected --out with a file, such as --out labels.csv")
    if out.resolve() in {table.resolve() for table in tables}:
        raise UsageError(f"--out {out} is one of the tables to read; name another file")
    check_new_file(out)
    return out


def _files(slides: list[Path] | None, features: Path | None) -> "FilesOnDisk":
    from dtcwsi.cohorts.build import FilesOnDisk
    from dtcwsi.slides import slide_files
    from dtcwsi.store.features import feature_files

    by_id: dict[str, tuple[Path, ...]] = {}
    for path in slide_files(slides) if slides else ():
        by_id[path.stem] = (*by_id.get(path.stem, ()), path)
    return FilesOnDisk(by_id if slides else None, None if features is None else feature_files(features))


def _list(*, as_json: bool) -> None:
    from dtcwsi.cohorts.definitions import COHORTS

    if as_json:
        print_json({name: asdict(cohort) for name, cohort in COHORTS.items()})
        return
    rows = [
        (name, one.label, one.title, f"{one.slides:,}", _number(one.patients), _number(one.public_slides))
        for name, cohort in COHORTS.items()
        for one in cohort.classes
    ]
    print_table(("cohort", "class", "what", "paper: slides", "patients", "public slides"), rows)
    for name, cohort in COHORTS.items():
        if cohort.note:
            print(f"{name}: {cohort.note}")


def _facts(cohort: "BuiltCohort", out: Path) -> dict[str, Any]:
    """The report as data."""
    return {
        "cohort": cohort.definition.name,
        "classes": [
            {
                **asdict(one),
                "slides_difference": one.slides - one.paper_slides,
                "patients_difference": None if one.paper_patients is None else one.patients - one.paper_patients,
                "public_difference": None if one.public_slides is None else one.slides - one.public_slides,
            }
            for one in cohort.counts
        ],
        "slides": len(cohort.rows),
        "found": None if cohort.missing is None else len(cohort.rows) - len(cohort.missing),
        "missing": cohort.missing,
        "doubled": cohort.doubled,
        "unlabelled": cohort.unlabelled,
        "left_out": cohort.left_out,
        "refused": cohort.refused,
        "warnings": cohort.warnings,
        "note": cohort.definition.note,
        "out": str(out),
    }


def _tell(cohort: "BuiltCohort", out: Path) -> None:
    print_table(*_counted(cohort))
    if cohort.definition.note:
        print(f"note: {cohort.definition.note}")
    if cohort.missing is None:
        print("found: not looked for; --slides or --features says where")
    else:
        print(f"found: {count(len(cohort.rows) - len(cohort.missing), 'slide')}")
        _tell_slides("missing", cohort.missing, " without a slide or feature file")
    _tell_slides(
        "doubled", (f"{slide} ({what})" for slide, what in cohort.doubled.items()), " in several files or rows"
    )
    _tell_slides("unlabelled", cohort.unlabelled, " on disk that no table names")
    for reason, slides in cohort.left_out.items():
        _tell_slides("left out", slides, f", {reason}")
    for slide, why in list(cohort.refused.items())[:_REFUSED_SHOWN]:
        print(f"refused: {slide}: {why}")
    if len(cohort.refused) > _REFUSED_SHOWN:
        print(f"refused: {len(cohort.refused) - _REFUSED_SHOWN} more, which --json lists")
    for warning in cohort.warnings:
        print(f"WARNING {warning}")
    patients = len({row.patient_id for row in cohort.rows})
    print(f"{out}: {count(len(cohort.rows), 'slide')} of {count(patients, 'patient')}")


def _tell_slides(what: str, slides: Iterable[str], why: str) -> None:
    names = list(slides)
    if names:
        print(f"{what}: {count(len(names), 'slide')}{why}: {some(names, 3)}")


def _counted(cohort: "BuiltCohort") -> tuple[list[str], list[list[str]]]:
    """The table of classes: each count, the paper's, the difference; the public ones where these are others."""
    public = any(one.public_slides is not None for one in cohort.counts)
    header = ["class", "slides", "paper", "difference", "patients", "paper", "difference"]
    header += ["public slides", "difference"] if public else []
    numbers = [
        [one.slides, one.paper_slides, one.patients, one.paper_patients, one.public_slides] for one in cohort.counts
    ]
    numbers.append([_sum(column) for column in zip(*numbers, strict=True)])
    labels = [*(one.label for one in cohort.counts), "all"]
    return header, [
        [label, *_compared(slides, paper), *_compared(patients, cases), *([*_compared(slides, out)[1:]] * public)]
        for label, (slides, paper, patients, cases, out) in zip(labels, numbers, strict=True)
    ]


def _sum(numbers: Iterable[int | None]) -> int | None:
    told = list(numbers)
    return None if None in told else sum(number for number in told if number is not None)


def _compared(ours: int | None, theirs: int | None) -> tuple[str, str, str]:
    return _number(ours), _number(theirs), "-" if ours is None or theirs is None else f"{ours - theirs:+,}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
