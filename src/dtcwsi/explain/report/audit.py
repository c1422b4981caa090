"""The audit of a run's splits, for the report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dtcwsi.bags.split_audit import Audit, audit_splits
from dtcwsi.bags.split_files import read_splits
from dtcwsi.errors import CohortError
from dtcwsi.explain.report.runs import RunSummary

__all__ = ["AuditedRuns", "audits"]


@dataclass(frozen=True)
class AuditedRuns:
    """What was found in the splits that these runs have in common; without an ``audit``, ``why`` there is none."""

    names: tuple[str, ...]
    audit: Audit | None
    why: str = ""


def audits(runs: Mapping[str, RunSummary]) -> list[AuditedRuns]:
    """Audit every run's splits as `dtcwsi audit-splits` does, runs of the same splits once."""
    found: list[AuditedRuns] = []
    for name, run in runs.items():
        one = _audited(name, run.folder)
        same = next((at for at, other in enumerate(found) if (other.audit, other.why) == (one.audit, one.why)), None)
        if same is None:
            found.append(one)
        else:
            found[same] = replace(found[same], names=(*found[same].names, name))
    return found


def _audited(name: str, folder: Path) -> AuditedRuns:
    try:
        splits = read_splits([folder])
    except CohortError as error:
        return AuditedRuns((name,), None, str(error))
    named = [replace(one, name=Path(one.name).parent.name) for one in splits.partitions]
    return AuditedRuns((name,), audit_splits(replace(splits, partitions=tuple(named))))
