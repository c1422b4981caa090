"""``dtcwsi audit-splits``: does a split leak, recur or lean?"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.cli.console import Progress, count, print_json, print_table, some
from dtcwsi.cli.labels import tell_overlooked
from dtcwsi.cli.options import Json
from dtcwsi.errors import CohortError

if TYPE_CHECKING:
    from dtcwsi.bags.near_duplicates import NearDuplicate, Sketch
    from dtcwsi.bags.split_audit import Audit
    from dtcwsi.bags.split_files import Splits

__all__ = ["run"]


def run(
    splits: Annotated[
        list[Path],
        typer.Argument(
            metavar="CSV...", help="Split files of dtcwsi, CLAM or Patho-Bench, or run folders.", show_default=False
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Labels table, for patients, and for classes that the splits lack.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option("--features", help="Feature files, to find near-duplicate slides.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Prove that no patient, slide or near copy is in two parts; status 1 if one is, or not all could be looked at."""
    from dtcwsi.bags.cohort import read_labels
    from dtcwsi.bags.split_audit import audit_splits
    from dtcwsi.bags.split_files import read_splits

    found, unknown = read_splits(splits), list[str]()
    if labels is not None:
        table = read_labels(labels)
        tell_overlooked(labels)
        unknown = _without_row(found, labels, {row.slide_id for row in table})
        patients = _told(found.patients) | _told({row.slide_id: row.patient_id for row in table})
        classes = {row.slide_id: row.label for row in table}
        sites = {row.slide_id: row.site for row in table if row.site is not None}
        found = replace(found, patients=patients, labels=classes | found.labels, sites=sites)
    not_compared: list[str] = []
    audit = audit_splits(found, _alike(found, features, not_compared) if features is not None else ())
    _tell(audit, not_compared, unknown, as_json=as_json)
    return 1 if audit.leaks or unknown or not_compared else 0


def _without_row(splits: "Splits", labels: Path, known: set[str]) -> list[str]:
    """List the slides of which neither a labels table nor the splits tell a patient.

    Raises: CohortError if no slide of the splits has a row.
    """
    slides = splits.slides
    if known.isdisjoint(slides):
        raise CohortError(
            f"none of the {len(slides)} slides of the splits, such as {slides[0] if slides else ''!r}, has a row in "
            f"{labels}, which has such as {min(known)!r}; expected the same ids: mend one of the files"
        )
    return [slide for slide in slides if slide not in known and splits.patient(slide) == slide]


def _told(patients: Mapping[str, str]) -> dict[str, str]:
    """Keep the patients that are known: one called as its slide stands for none."""
    return {slide: patient for slide, patient in patients.items() if patient != slide}


def _alike(splits: "Splits", folder: Path, not_compared: list[str]) -> "Iterator[NearDuplicate]":
    """Compare slides by their features; ``not_compared`` is filled with those that cannot be."""
    from dtcwsi.bags.near_duplicates import near_duplicates
    from dtcwsi.errors import UsageError
    from dtcwsi.store.features import feature_files

    files = feature_files(folder)
    there = {slide: files[slide] for slide in splits.slides if slide in files}
    if not there:
        raise UsageError(
            f"none of the {len(splits.slides)} slides has a file in {folder}, which holds {len(files)} such as "
            f"{next(iter(files))!r}; the ids must be the files' names without .h5"
        )
    not_compared += [slide for slide in splits.slides if slide not in there]
    return near_duplicates(_sketches(there, not_compared))


def _sketches(files: dict[str, Path], not_compared: list[str]) -> "Iterator[tuple[str, Sketch]]":
    from dtcwsi.bags.near_duplicates import sketch_of
    from dtcwsi.errors import FeaturesError
    from dtcwsi.store.features import read_features

    with Progress(len(files), "slides") as progress:
        for slide, path in files.items():
            try:
                sketch = sketch_of(read_features(path).features)
            except FeaturesError as error:
                progress.item(f"{slide}: not compared: {error}")
                not_compared.append(slide)
                continue
            progress.item(slide, quiet=True)
            yield slide, sketch


def _tell(audit: "Audit", not_compared: list[str], unknown: list[str], *, as_json: bool) -> None:
    if as_json:
        told = {"not_compared": not_compared, "without_label": unknown}
        print_json({"leaks": len(audit.leaks), **asdict(audit), **told})
        return
    classes = list(dict.fromkeys(name for part in audit.counts for name in part.classes))
    rows = [
        (part.partition, part.part, part.slides, part.patients, *(part.classes.get(name, 0) for name in classes))
        for part in audit.counts
    ]
    print_table(("partition", "part", "slides", "patients", *classes), rows)
    for finding in audit.findings:
        names = f": {some(finding.names)}" if finding.names else ""
        print(f"{finding.kind.upper()} {finding.where}: {finding.what}{names}")
    if unknown:
        print(
            f"no row in the labels and no patient told: {count(len(unknown), 'slide')}: {some(unknown)}; expected ids "
            "as in the labels: mend one of the files"
        )
    if not_compared:
        print(f"not compared by features: {count(len(not_compared), 'slide')}: {some(not_compared)}")
    if not audit.leaks:
        print("no leak found" + (" among the others" if not_compared or unknown else ""))
