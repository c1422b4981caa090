"""The paper's claims, each held against the tables that were made: it holds, does not, or cannot be told."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dtcwsi.benchmark.tables.comparing import compare_runs
from dtcwsi.benchmark.tables.definitions import TABLES, scored_as
from dtcwsi.errors import UsageError
from dtcwsi.metrics import holm
from dtcwsi.model_folder import package_versions
from dtcwsi.store.atomic import write_json, write_text

__all__ = ["CLAIMS", "Above", "Judged", "Measured", "judge_claims", "write_claims"]

HOLDS, FAILS, OPEN, MISSING = "holds", "does not hold", "cannot be told", "not run"


@dataclass(frozen=True)
class Above:
    """A row of a table is better than another one."""

    text: str
    where: str
    table: str
    better: str
    worse: str


@dataclass(frozen=True)
class Measured:
    """A figure ``of`` a metric of two rows is ``least`` or more; it has no interval."""

    text: str
    where: str
    table: str
    rows: tuple[str, str]
    metric: str
    of: Callable[[float, float], float]
    least: float


@dataclass(frozen=True)
class Judged:
    """A claim and what became of it.

    ``value`` is a difference of ``metric`` out of fold, in points of 100, ``low`` to ``high`` its 95 % interval,
    ``p_holm`` its p corrected for all differences of the page; of a measured claim ``value`` alone.
    """

    text: str
    where: str
    table: str
    verdict: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None


def _times_less(one: float, other: float) -> float:
    return other / one


def _saved(one: float, other: float) -> float:
    return 1 - one / other


def _over(table: str, where: str, best: str, others: Iterable[str]) -> list[Above]:
    return [Above(f"{best} is better than {other}", where, table, best, other) for other in others]


def _others(table: str, row: str) -> list[str]:
    return [other for other in TABLES[table].rows if other != row]


_BOTH, _MERGED, _PRUNED = "Dynamic Merge + Prune", "Only Merge", "Only Prune"
_WITH, _WITHOUT = "with it", "without the sparsity loss"
_ENDS = ("r = 0.4", "r = 1.0")

CLAIMS: tuple[Above | Measured, ...] = (
    *_over("table1", "Abstract, 3.3", "DTC-WSI", _others("table1", "DTC-WSI")),
    *_over("table1", "3.3", "ABMIL", ("Random Sampling", "ToMe")),
    *_over("table2", "Abstract, 3.4: compression improves accuracy", "r = 0.4", _others("table2", "r = 0.4")),
    Measured("4.9 times fewer FLOPs at r = 0.4", "3.4", "table2", _ENDS, "gflop", _times_less, 4.8),
    Measured("20 to 40 % less memory at r = 0.4", "Abstract, 4", "table2", _ENDS, "mil_gib", _saved, 0.2),
    Measured("5.3 times faster at r = 0.4, all stages", "Abstract, 3.4", "table2", _ENDS, "full_ms", _times_less, 5.2),
    Measured("5.3 times faster, MIL alone", "Abstract, 3.4", "table2", _ENDS, "mil_ms", _times_less, 5.2),
    *_over("table4", "3.5", _MERGED, ("Random Merging",)),
    *_over("table4", "3.5", _PRUNED, ("Random Pruning",)),
    *_over("table4", "2.3, 3.5", _BOTH, _others("table4", _BOTH)),
    *_over("table5", "3.5", "Uniform", _others("table5", "Uniform")),
    *(
        Above(
            f"{model} is better with DTC, {encoder}", "3.5", "table6", f"DTC-{model}, {encoder}", f"{model}, {encoder}"
        )
        for encoder in ("CONCH", "Virchow2")
        for model in ("ABMIL", "TransMIL")
    ),
    Measured(
        "five to ten times fewer tokens",
        "Abstract, 1, 4; r = 0.4 itself is 2.5 times",
        "table6",
        ("DTC-ABMIL, CONCH", "ABMIL, CONCH"),
        "tokens",
        _times_less,
        5,
    ),
    *_over("table7", "3.5", _WITH, (_WITHOUT,)),
    Measured("the sparsity loss leaves fewer tokens", "3.5", "table7", (_WITH, _WITHOUT), "tokens", _saved, 0.01),
    *_over("table8", "Appendix C: r = 0.4 is best", "r = 0.4", _others("table8", "r = 0.4")),
)


def judge_claims(folder: Path) -> list[Judged]:
    """Hold every claim against ``table1.json`` to ``table8.json`` in a folder, and the runs that they name.

    A difference holds if its interval lies above 0, does not if it lies below, and cannot be told otherwise: see
    `compare_runs`. A figure holds from the claim's own number on. Claims whose table or rows are not there are not run.
    Raises: UsageError if the folder holds no table.
    """
    tables = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("table?.json"))}
    if not tables:
        raise UsageError(f"{folder} holds no table1.json to table8.json; make a table there first: dtcwsi bench table1")
    rows = {name: {row["row"]: row for row in told["rows"]} for name, told in tables.items()}
    found = [_judged(claim, rows.get(claim.table, {}), folder) for claim in CLAIMS]
    tested = [number for number, one in enumerate(found) if one.p_holm is not None]
    for number, p in zip(tested, holm([found[number].p_holm or 0.0 for number in tested]), strict=True):
        found[number] = replace(found[number], p_holm=p)
    return found


def _judged(claim: Above | Measured, rows: Mapping[str, Any], folder: Path) -> Judged:
    if isinstance(claim, Measured):
        return _figure(claim, rows)
    metric = TABLES[claim.table].compared_by
    blank = Judged(claim.text, claim.where, claim.table, MISSING, metric)
    pair = [rows.get(name) for name in (claim.better, claim.worse)]
    if not all(row and row["runs"] and not row["failed"] for row in pair):
        return blank
    ours, theirs = ([folder / run for run in row["runs"]] for row in pair if row)
    told = compare_runs(claim.worse, ours, theirs, scored_as(metric))
    if told is None:
        return blank
    verdict = HOLDS if told.low > 0 else FAILS if told.high < 0 else OPEN
    return replace(blank, verdict=verdict, value=told.value, low=told.low, high=told.high, p_holm=told.p)


def _figure(claim: Measured, rows: Mapping[str, Any]) -> Judged:
    blank = Judged(claim.text, claim.where, claim.table, MISSING, claim.metric)
    values = [rows.get(name, {}).get(f"ours_{claim.metric}") for name in claim.rows]
    if not all(isinstance(value, float | int) and value > 0 for value in values):
        return blank
    value = claim.of(*values)
    return replace(blank, value=value, verdict=HOLDS if value >= claim.least else FAILS)


def write_claims(judged: Sequence[Judged], folder: Path, *, command: str) -> tuple[Path, ...]:
    """Write ``claims.csv``, ``claims.json`` and ``claims.md``.  Returns: the three paths."""
    paths = tuple(folder / f"claims.{suffix}" for suffix in ("csv", "json", "md"))
    rows = [asdict(one) for one in judged]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(paths[0], buffer.getvalue())
    write_json(paths[1], {"command": command, "versions": package_versions(), "claims": rows})
    write_text(paths[2], _page(judged, command))
    return paths


def _page(judged: Sequence[Judged], command: str) -> str:
    counts = {verdict: sum(one.verdict == verdict for one in judged) for verdict in (HOLDS, FAILS, OPEN, MISSING)}
    lines = [
        "# The paper's claims on this cohort",
        "",
        f"`{command}`",
        "",
        "Of {} claims {} hold, {} do not, {} cannot be told and {} were not run.".format(len(judged), *counts.values()),
        "Differences are of out-of-fold predictions on the same slides, in points, with the 95 % interval over "
        "patients drawn with replacement: above 0 a claim holds, below it does not, around 0 it cannot be told from "
        "these slides. p is Holm's for all differences of the page. Figures without an interval are measured once.",
        "",
        "| claim | section | table | verdict | of | ours | p (Holm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in judged:
        p = "" if one.p_holm is None else f"{one.p_holm:.2g}"
        lines.append(
            f"| {one.text} | {one.where} | {one.table[5:]} | {one.verdict} | {one.metric} | {_told(one)} | {p} |"
        )
    return "\n".join(lines) + "\n"


def _told(one: Judged) -> str:
    if one.value is None or math.isnan(one.value):
        return ""
    return f"{one.value:.2f}" if one.low is None else f"{one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
