"""The paper's claims, each held against the tables that were made: it holds, does not, or cannot be told."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from dtcwsi.benchmark.tables.comparing import compare_runs
from dtcwsi.benchmark.tables.definitions import TABLES, TIMED, scored_as
from dtcwsi.benchmark.tables.ratios import LEAST, Multiple, multiple_of
from dtcwsi.errors import UsageError
from dtcwsi.metrics import holm
from dtcwsi.model_folder import package_versions
from dtcwsi.store.atomic import write_json, write_text
from dtcwsi.store.tables import csv_text
from dtcwsi.training.environment import source_commit

__all__ = ["CLAIMS", "Claim", "Claims", "Difference", "Falling", "Judged", "Ratio", "judge_claims", "write_claims"]

_SCORES = ("accuracy", "auc")
_TRAININGS, _WHOLE = 3, 100.0  # two drawn of two vary half as much as training does
HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "cannot be told", "not run"


@dataclass(frozen=True)
class Claim:
    """What the paper says: ``text`` in our words, ``where`` its section, the ``table`` that it is held against."""

    text: str
    where: str
    table: str


@dataclass(frozen=True)
class Difference(Claim):
    """Row ``one`` minus ``other`` is above ``least`` points of ``metric``, or, if ``alike``, within so many."""

    one: str
    other: str
    least: float = 0.0
    alike: bool = False
    metric: str = "acc"


@dataclass(frozen=True)
class Ratio(Claim):
    """Row ``other`` has ``least`` times as much in the column ``of`` as row ``one``, or more."""

    one: str
    other: str
    of: str
    least: float


@dataclass(frozen=True)
class Falling(Claim):
    """A column falls from each of the rows to the next."""

    rows: tuple[str, ...]
    of: str


@dataclass(frozen=True)
class Judged:
    """A claim and what became of it.

    ``claimed`` is the least that was claimed, ``value`` what was found, with the interval from ``low`` to ``high``:
    points, with ``p_holm``, the p of no difference corrected for all of the page; or a multiple, of a column that
    should fall the largest that a row has of the one before, without an interval where there are not several values.
    ``reason`` says why a claim was not run, or why it cannot be told.
    """

    text: str
    where: str
    table: str
    verdict: str
    of: str
    claimed: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Claims:
    """All claims judged, and what the tables are of: cohort, protocol and measured slide, by table."""

    judged: tuple[Judged, ...]
    tables: Mapping[str, str]


def _over(table: str, where: str, best: str, others: Iterable[str], least: float = 0.0) -> list[Difference]:
    return [Difference(f"{best} over {other}", where, table, best, other, least) for other in others]


def _rising(table: str, where: str, rows: Sequence[str]) -> list[Difference]:
    return [
        Difference(f"{after} over {before}", where, table, after, before)
        for before, after in zip(rows, rows[1:], strict=False)
    ]


def _others(table: str, row: str) -> list[str]:
    return [other for other in TABLES[table].rows if other != row]


_BOTH, _MERGED, _PRUNED = "Dynamic Merge + Prune", "Only Merge", "Only Prune"
_WITH, _WITHOUT = "with it", "without the sparsity loss"
_FEWER = ("r = 1.0", "r = 0.7", "r = 0.5", "r = 0.4")
_RISES = ("r = 0.8", "r = 0.7", "r = 0.6", "r = 0.5")
_TIMES = (("time of all stages", "full_ms"), ("time of the MIL part", "mil_ms"))
_ENCODERS = ("CONCH", "Virchow2")

CLAIMS: tuple[Difference | Ratio | Falling, ...] = (
    *_over("table1", "Abstract, 1: 2 to 4 points", "DTC-WSI", _others("table1", "DTC-WSI"), least=2),
    *(
        Difference(f"AUC of DTC-WSI over {row}", "3.3: 1.6 to 3.5 points", "table1", "DTC-WSI", row, 1.6, metric="auc")
        for row in _others("table1", "DTC-WSI")
    ),
    *_over("table1", "3.4: severe degradation", "ABMIL", ["Random Sampling"], least=5),
    *_rising("table2", "3.4: accuracy rises as r falls", _FEWER),
    Falling("FLOPs fall with r", "3.4", "table2", _FEWER, "gflop"),
    Falling("memory falls with r", "3.4", "table2", _FEWER, "mil_gib"),
    Falling("time falls with r", "3.4", "table2", _FEWER, "mil_ms"),
    Ratio("FLOPs at r = 0.7", "3.4: nearly halved, 118.4 to 62.7 G", "table2", "r = 0.7", "r = 1.0", "gflop", 1.88),
    Ratio("FLOPs at r = 0.4", "3.4: 118.4 to 24.3 G", "table2", "r = 0.4", "r = 1.0", "gflop", 4.87),
    Ratio("memory at r = 0.4, 20 % less", "Abstract: 20 to 40 % less", "table2", "r = 0.4", "r = 1.0", "mil_gib", 1.25),
    Ratio("memory at r = 0.4, 40 % less", "5: 40 % less", "table2", "r = 0.4", "r = 1.0", "mil_gib", 1.66),
    *(
        Ratio(
            f"time of all stages at {row}", f"Abstract, 3.4: {least} times", "table2", row, "r = 1.0", "full_ms", least
        )
        for row, least in (("r = 0.7", 1.8), ("r = 0.5", 3.0), ("r = 0.4", 5.3))
    ),
    *(
        Ratio(f"time of the MIL part at {row}", f"Table 2: 420 to {ms} ms", "table2", row, "r = 1.0", "mil_ms", least)
        for row, ms, least in (("r = 0.7", 260, 1.61), ("r = 0.5", 170, 2.47), ("r = 0.4", 95, 4.42))
    ),
    Ratio("training time under ABMIL's", "3.4", "table3", "DTC-WSI", "ABMIL", "epoch_s", 1.32),
    *(
        Ratio(f"{what} under {row}'s", "3.4", "table3", "DTC-WSI", row, of, least)
        for row, memory, faster in (("ABMIL", 1.56, 4.53), ("TransMIL", 2.07, 6.68))
        for what, of, least in (("memory", "mil_gib", memory), *((*time, faster) for time in _TIMES))
    ),
    *_over("table4", "3.5", _MERGED, ["Random Merging"]),
    *_over("table4", "3.5", _PRUNED, ["Random Pruning"]),
    *_over("table4", "1, 3.5: 2 to 4 points", _BOTH, [_MERGED, _PRUNED], least=2),
    *_over("table4", "3.5", _BOTH, ["Random Merging", "Random Pruning"]),
    *_over("table5", "3.5: uniform is best", "Uniform", _others("table5", "Uniform")),
    *(
        Difference(f"Uniform and {row} are alike", "3.5: not sensitive", "table5", "Uniform", row, 1, alike=True)
        for row in _others("table5", "Uniform")
    ),
    *(
        Difference(f"DTC before {model}, {encoder}", "3.5", "table6", f"DTC-{model}, {encoder}", f"{model}, {encoder}")
        for encoder in _ENCODERS
        for model in ("ABMIL", "TransMIL")
    ),
    *(
        Ratio(f"{what} of DTC before {row}", f"3.5: {least} times", "table6", f"DTC-{row}", row, of, least)
        for encoder in _ENCODERS
        for row, memory, faster in ((f"ABMIL, {encoder}", 2, 5), (f"TransMIL, {encoder}", 3, 3))
        for what, of, least in (("memory", "mil_gib", memory), *((*time, faster) for time in _TIMES))
    ),
    Ratio(
        "five to ten times fewer tokens (r = 0.4 itself is 2.5 times)",
        "Abstract, 1, 5",
        "table6",
        "DTC-ABMIL, CONCH",
        "ABMIL, CONCH",
        "tokens",
        5,
    ),
    *_over("table7", "3.5", _WITH, [_WITHOUT]),
    Ratio("tokens with the sparsity loss", "3.5: 0.52 to 0.40", "table7", _WITH, _WITHOUT, "tokens", 1.3),
    Ratio("time with the sparsity loss", "3.5: 610 to 410 ms", "table7", _WITH, _WITHOUT, "ms", 1.48),
    *_rising("table8", "Appendix B: a steady rise", _RISES),
    *_over("table8", "Appendix B: the best r", "r = 0.4", _others("table8", "r = 0.4")[:-1]),
    *_over("table8", "Appendix B: a sharp drop", "r = 0.4", ["r = 0.3"], least=5),
)


def judge_claims(folder: Path) -> Claims:
    """Hold every claim against ``table1.json`` to ``table8.json`` in a folder, and the runs that they name.

    A difference holds if its whole interval is above what was claimed, does not if it is below, and cannot be told
    otherwise, nor of too few patients, see `compare_runs`, nor of fewer than three trainings each, nor where the other
    row leaves no room for what was claimed; likeness holds within and does not hold beyond. So do multiples, by the
    interval of folds or of measuring processes, see `multiple_of`; what was counted has none. A column falls if every
    step's interval is below 1, at a level corrected for their number.
    Raises: UsageError if the folder holds no table, or a file that is none.
    """
    tables = {name: _read(folder / f"{name}.json") for name in TABLES if (folder / f"{name}.json").is_file()}
    if not tables:
        raise UsageError(f"{folder} holds no table1.json to table8.json; make a table there first: dtcwsi bench table1")
    rows = {name: {row["row"]: row for row in told["rows"]} for name, told in tables.items()}
    found = [_judged(claim, rows.get(claim.table), folder) for claim in CLAIMS]
    compared: dict[tuple[object, ...], float] = {}  # some claims are of the same runs
    for claim, one in zip(CLAIMS, found, strict=True):
        if isinstance(claim, Difference) and one.p_holm is not None:
            compared[_pair(claim, rows)] = one.p_holm
    corrected = dict(zip(compared, holm(list(compared.values())), strict=True))
    for number, (claim, one) in enumerate(zip(CLAIMS, found, strict=True)):
        if isinstance(claim, Difference) and one.p_holm is not None:
            found[number] = replace(one, p_holm=corrected[_pair(claim, rows)])
    return Claims(tuple(found), {name: _about(told) for name, told in tables.items()})


def _pair(claim: Difference, rows: Mapping[str, Mapping[str, Any]]) -> tuple[object, ...]:
    """Name what a claim compares, whichever row and table it is in."""
    of_table = rows[claim.table]
    return claim.metric, frozenset(tuple(of_table[row]["runs"]) for row in (claim.one, claim.other))


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        for row in told["rows"]:
            row["row"], row["runs"], row["failed"]  # noqa: B018  # what is read of it
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is no table of `dtcwsi bench` ({error!r}); make it again or move it away") from error
    return dict(told)


def _about(told: Mapping[str, Any]) -> str:
    protocol = told.get("protocol", {})
    parts = [
        told.get("cohort"),
        told.get("slides") and f"{told['slides']} slides of {told.get('patients', 'unknown')} patients",
        protocol.get("recipe") and f"{protocol['recipe']} recipe",
        protocol.get("epochs") and f"{protocol['epochs']} epochs at most",
        protocol.get("seeds") and f"seeds: {protocol['seeds']}",
        told.get("measured") and f"measured: one slide of {told['measured']}",
    ]
    return ", ".join(str(part) for part in parts if part)


def _judged(claim: Difference | Ratio | Falling, rows: Mapping[str, Any] | None, folder: Path) -> Judged:
    blank = Judged(claim.text, claim.where, claim.table, NOT_RUN, *_measure_of(claim))
    if rows is None:
        return replace(blank, reason="no such table")
    names = claim.rows if isinstance(claim, Falling) else (claim.one, claim.other)
    for name in names:
        if name not in rows or not rows[name]["runs"]:
            return replace(blank, reason=f"no row {name}")
        if rows[name]["failed"]:
            return replace(blank, reason=f"{name} failed")
    chosen = [rows[name] for name in names]
    if isinstance(claim, Difference):
        return _difference(claim, blank, chosen, folder)
    if claim.of in TIMED and len({device for row in chosen for device in row.get("devices", [])}) > 1:
        return replace(blank, verdict=OPEN, reason="trained on unlike devices")
    values = [row.get(f"ours_{claim.of}") for row in chosen]
    if not all(isinstance(value, int | float) for value in values):
        return replace(blank, reason="not measured")
    if not all(values):
        return replace(blank, verdict=OPEN, reason=f"{names[values.index(0)]} has 0")
    samples = [row.get("samples", {}).get(claim.of, {}) for row in chosen]
    if isinstance(claim, Ratio):
        return _multiple(claim, blank, values, samples)
    return _falling(blank, values, samples)


def _multiple(claim: Ratio, blank: Judged, values: Sequence[float], samples: Sequence[Mapping[str, float]]) -> Judged:
    one, other = samples
    found, fewest = multiple_of(one, other), min(len(one), len(other))
    if found is None and fewest:
        return replace(blank, value=values[1] / values[0], verdict=OPEN, reason=f"{fewest} values are too few")
    if found is None:
        value = values[1] / values[0]
        return replace(blank, value=value, verdict=HOLDS if value >= claim.least else FAILS)
    holds, fails = found.low >= claim.least, found.high < claim.least
    return _with(blank, found, HOLDS if holds else FAILS if fails else OPEN)


def _falling(blank: Judged, values: Sequence[float], samples: Sequence[Mapping[str, float]]) -> Judged:
    """Look at every row and the one before."""
    level = 1 - 0.05 / (len(values) - 1)
    steps = [multiple_of(before, after, level=level) for before, after in pairwise(samples)]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        largest = max(after / before for before, after in pairwise(values))
        return replace(blank, value=largest, verdict=HOLDS if largest < 1 else FAILS)
    holds, fails = all(step.high < 1 for step in known), any(step.low >= 1 for step in known)
    return _with(blank, max(known, key=lambda step: step.value), HOLDS if holds else FAILS if fails else OPEN)


def _with(blank: Judged, found: Multiple, verdict: str) -> Judged:
    return replace(blank, value=found.value, low=found.low, high=found.high, verdict=verdict)


def _measure_of(claim: Difference | Ratio | Falling) -> tuple[str, str]:
    """Say what is measured, and the least that was claimed of it."""
    if isinstance(claim, Ratio):
        return claim.of, f">= {claim.least:g} times"
    if isinstance(claim, Falling):
        return claim.of, "< 1 times the row before"
    return scored_as(claim.metric), f"within {claim.least:g}" if claim.alike else f"> {claim.least:g}"


def _difference(claim: Difference, blank: Judged, rows: Sequence[Mapping[str, Any]], folder: Path) -> Judged:
    ours, theirs = ([folder / run for run in row["runs"]] for row in rows)
    if not all((run / name).is_file() for run in (*ours, *theirs) for name in ("predictions.csv", "folds.csv")):
        return replace(blank, reason="run folders are gone")
    told = compare_runs(claim.other, ours, theirs, scored_as(claim.metric))
    if told is None:
        return replace(blank, reason="not the same slides in the same folds")
    if claim.alike:
        holds = -claim.least <= told.low and told.high <= claim.least
        fails = told.low > claim.least or told.high < -claim.least
    else:
        holds, fails = told.low > claim.least, told.high < claim.least
    if told.few:
        return replace(blank, value=told.value, verdict=OPEN, reason=f"{told.patients} patients are too few")
    found = replace(blank, value=told.value, low=told.low, high=told.high)
    if len(ours) < _TRAININGS:
        return replace(found, verdict=OPEN, reason=f"{('one training', 'two trainings')[len(ours) - 1]} each")
    reached = rows[1].get(f"ours_{claim.metric}")
    if not claim.alike and isinstance(reached, int | float) and reached + claim.least >= _WHOLE:
        return replace(found, verdict=OPEN, reason=f"{claim.other} has {reached:.1f}, which leaves no room")
    p = None if claim.alike else told.p
    return replace(found, p_holm=p, verdict=HOLDS if holds else FAILS if fails else OPEN)


def write_claims(claims: Claims, folder: Path, *, command: str) -> tuple[Path, ...]:
    """Write ``claims.csv``, ``claims.json`` and ``claims.md``.  Returns: the three paths."""
    paths = tuple(folder / f"claims.{suffix}" for suffix in ("csv", "json", "md"))
    rows = [asdict(one) for one in claims.judged]
    write_text(paths[0], csv_text(rows))
    told = {
        "command": command,
        "commit": source_commit(),
        "versions": package_versions(),
        "tables": dict(claims.tables),
        "claims": rows,
    }
    write_json(paths[1], told)
    write_text(paths[2], _page(claims, command))
    return paths


def _page(claims: Claims, command: str) -> str:
    judged = claims.judged
    counts = [sum(one.verdict == verdict for one in judged) for verdict in (HOLDS, FAILS, OPEN, NOT_RUN)]
    intervals = sum(one.low is not None for one in judged)
    lines = [
        "# The paper's claims",
        "",
        f"`{command}`",
        "",
        *(f"* Table {name[5:]}: {told}" for name, told in claims.tables.items()),
        "",
        "Of {} claims {} hold, {} do not, {} cannot be told and {} were not run.".format(len(judged), *counts),
        "Differences are of all out-of-fold predictions together, not of the means over folds that the tables and the "
        "paper have, on the same slides, in points, with the 95 % interval over patients and trainings, drawn with "
        "replacement; where fewer than six patients differ, an accuracy's goes to the exact limits of their shares. A "
        "claim holds if the interval lies above what was claimed, does not if it lies below, and cannot be told from "
        "these slides if it does neither. Models that were trained once or twice each tell nothing, since training one "
        "of them again changes as much; nor is anything told where the other row is so near to 100 that the claim has "
        "no room. p (Holm), of no difference, is corrected for all that are judged. Multiples are the other row's "
        "figure over the row's, with an interval of "
        f"Student's t if there are {LEAST} values of each: of folds and seeds in pairs, or of one slide measured in "
        "several processes, by their geometric means; of a fall at a level corrected for its steps. FLOPs, which are "
        "counted, have none."
        + (f" Of {intervals} intervals some {0.05 * intervals:.0f} miss the truth by chance." if intervals else ""),
        "",
        "What the paper says of its pictures is in no table and not judged here.",
        "",
        "| claim | section | table | claimed | ours | of | verdict | p (Holm) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in judged:
        p = "" if one.p_holm is None else f"{one.p_holm:.2g}"
        verdict = f"{one.verdict} ({one.reason})" if one.reason else one.verdict
        cells = (one.text, one.where, one.table[5:], one.claimed, _told(one), one.of, verdict, p)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _told(one: Judged) -> str:
    if one.value is None:
        return ""
    if one.low is None:
        return f"{one.value:+.1f}" if one.of in _SCORES else f"{one.value:.3g}"
    if one.of not in _SCORES:
        return f"{one.value:.4g} [{one.low:.4g}, {one.high:.4g}]"
    return f"{one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
