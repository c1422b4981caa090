"""What becomes of a slide when a cohort is drawn from tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dtcwsi.errors import CohortError

__all__ = ["CohortRow", "Judged", "check_kinds", "rows_of"]


@dataclass(frozen=True)
class CohortRow:
    """A slide of a cohort, as it goes into the labels table; ``further`` are columns that only some cohorts have."""

    slide_id: str
    patient_id: str
    label: str
    site: str
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """Every slide of the tables and on disk, in one of four places.

    ``rows`` have a label; ``left_out`` gives the reason of a slide that is none of the cohort, ``refused`` that of one
    whose rows cannot be right; ``unlabelled`` are on disk and no table names them. ``doubled`` tells of slides in
    several rows.
    """

    rows: dict[str, CohortRow]
    left_out: dict[str, str]
    unlabelled: tuple[str, ...]
    doubled: dict[str, str]
    refused: dict[str, str] = field(default_factory=dict)


def check_kinds(kinds: Mapping[Path, str], fit: Iterable[str], cohort: str) -> None:
    """Refuse tables of another archive.  Raises: CohortError."""
    fit = tuple(fit)
    other = next(((path, kind) for path, kind in kinds.items() if kind not in fit), None)
    if other is not None:
        path, kind = other
        raise CohortError(f"{path} is {kind}; expected for {cohort}: {', '.join(fit)}; leave it out")


def rows_of(count: int, tables: Iterable[Path]) -> str:
    """Say that a slide is in several rows, and of which tables."""
    return f"{count} rows of {', '.join(dict.fromkeys(map(str, tables)))}"
