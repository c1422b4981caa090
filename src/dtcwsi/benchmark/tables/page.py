"""A made table as CSV, JSON and a Markdown page."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dtcwsi.benchmark.tables.definitions import MEASURED, TIMED
from dtcwsi.benchmark.tables.making import MadeTable
from dtcwsi.benchmark.tables.rows import PROCESSES, MadeRow
from dtcwsi.metrics import FEW_PATIENTS
from dtcwsi.model_folder import package_versions
from dtcwsi.store.atomic import write_json, write_text
from dtcwsi.store.tables import csv_text
from dtcwsi.training.environment import source_commit

__all__ = ["write_table_files"]

_NOT_RUN = "not run"
_WORDS = {
    "acc": "accuracy (%)",
    "auc": "AUC (%)",
    "tokens": "tokens kept",
    "ms": "ms a slide",
    "epoch_s": "s an epoch",
    "gflop": "GFLOP",
    "cost_gflop": "GFLOP by the cost model",
    "mil_gib": "MIL GiB",
    "full_gib": "full GiB",
    "mil_ms": "MIL ms",
    "mil_speedup": "MIL speedup",
    "full_ms": "full ms",
    "read_ms": "read ms",
    "encode_ms": "encode ms",
    "compress_ms": "compress ms",
    "aggregate_ms": "aggregate ms",
}
_DIGITS = {"tokens": 2, "mil_gib": 3, "full_gib": 1, "epoch_s": 2}
_SIGNIFICANT = 6  # digits
_IN_JSON = ("samples", "devices", "trained_by")
_REFUSED_SHOWN = 5
_NARROW = 0.05  # points, as they are shown
_COMPARED = (
    "Compared: {metric} of all out-of-fold predictions together, not the mean over folds beside it, minus that of "
    "{reference} on the same slides, in points{interval}."
)
_INTERVAL = (
    ", with its 95 % interval, {drawn} drawn with replacement; p two-sided, by Holm for all rows of the page{once}"
)
_NO_WIDTH = ". An interval without width says that no slide here differs, not that none would"
_ONCE = ". Each was trained once: what training again would change is not in it"
_FEW = "; {patients} patients are too few for intervals, which are told from {least} on"


def write_table_files(made: MadeTable, folder: Path, *, command: str) -> tuple[Path, ...]:
    """Write ``NAME.csv``, ``NAME.json`` and ``NAME.md``, each whole or not at all.

    One row for each row of the paper's table: its name, further columns, and for every metric ``paper_<metric>``,
    ``ours_<metric>`` and ``ours_<metric>_std``; ``ours_std`` is that of the first metric, ``runs`` names the run
    folders that ours come from, relative to ``folder``. Where rows are compared: ``reference``, ``difference_<metric>``
    with ``_low`` and ``_high``, ``p_<metric>`` and ``p_holm_<metric>``, empty where a row could not be, or of fewer
    than `FEW_PATIENTS` ``compared_patients`` but the difference. ``n_folds`` are the folds behind a row, of all seeds.
    The JSON alone has ``samples``, the values behind a metric by fold and seed or by measuring process, ``devices``
    and ``trained_by``, and with ``commit`` and ``versions`` what wrote the table.
    Returns: the three paths.
    """
    rows = [_plain(made, row) for row in made.rows]
    paths = tuple(folder / f"{made.name}.{suffix}" for suffix in ("csv", "json", "md"))
    write_text(paths[0], _csv(rows))
    facts = {name: value for name, value in asdict(made).items() if name not in ("table", "rows", "uses")}
    used = made.uses[0]
    facts |= {"slides": used.slides, "labelled": used.labelled, "patients": used.patients, "refused": made.refused}
    facts |= {"mixed_patients": sorted({patient for use in made.uses for patient in use.mixed})}
    told = {**facts, "title": made.table.title, "remark": made.table.remark, "command": command}
    write_json(paths[1], {**told, "commit": source_commit(), "versions": package_versions(), "rows": rows})
    write_text(paths[2], _markdown(made, command))
    return paths


def _plain(made: MadeTable, row: MadeRow) -> dict[str, Any]:
    told: dict[str, Any] = {"row": row.name, **_columns(made, row)}
    for metric in made.table.metrics:
        told[f"paper_{metric}"] = row.paper.get(metric)
        if f"{metric}_std" in row.paper:
            told[f"paper_{metric}_std"] = row.paper[f"{metric}_std"]
        told[f"ours_{metric}"] = _rounded(row.ours[metric]) if metric in row.ours else _NOT_RUN
        told[f"ours_{metric}_std"] = _rounded(row.ours_std[metric]) if metric in row.ours_std else None
    told["ours_std"] = told[f"ours_{made.table.metrics[0]}_std"]
    searched = {"searched": list(row.searched)} if made.protocol["search"] else {}
    samples = {
        metric: {which: _rounded(value) for which, value in values.items()} for metric, values in row.samples.items()
    }
    behind = {"devices": list(row.devices), "trained_by": list(row.trained_by), "samples": samples}
    trained = {"runs": list(row.runs), "n_folds": row.n_folds, **searched, "failed": row.failed}
    return {**told, **_compared(made, row), **trained, **behind}


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT}g}")


def _compared(made: MadeTable, row: MadeRow) -> dict[str, Any]:
    """Set a row against its reference; no columns where the table has no references."""
    if not made.table.against:
        return {}
    by, one = made.table.compared_by, row.compared
    names = (
        "compared_patients",
        f"difference_{by}",
        f"difference_{by}_low",
        f"difference_{by}_high",
        f"p_{by}",
        f"p_holm_{by}",
    )
    known = [] if one is None else [one.patients, one.value, one.low, one.high, one.p, one.p_holm]
    told = known[:2] if one is not None and one.few else known
    figures = dict(zip(names, (round(figure, 5) for figure in told), strict=False))
    return {"reference": made.table.against.get(row.name), **dict.fromkeys(names), **figures}


def _columns(made: MadeTable, row: MadeRow) -> Mapping[str, str]:
    names = dict.fromkeys(name for one in made.rows for name in one.columns)
    return {name: row.columns.get(name, "-") for name in names}


def _csv(rows: list[dict[str, Any]]) -> str:
    lists = ("runs", "searched")
    flat = [{name: value for name, value in row.items() if name not in _IN_JSON} for row in rows]
    return csv_text([{**row, **{name: ";".join(row[name]) for name in lists if name in row}} for row in flat])


def _markdown(made: MadeTable, command: str) -> str:
    metrics, columns = made.table.metrics, list(_columns(made, made.rows[0]))
    told = {metric: any(metric in row.paper for row in made.rows) for metric in metrics}
    head = ["row", *columns]
    for metric in metrics:
        word = _WORDS.get(metric, metric)
        head += [f"paper {word}", f"ours {word}"] if told[metric] else [f"ours {word}"]
    if made.table.against:
        head += [f"{_WORDS[made.table.compared_by].removesuffix(' (%)')} - reference", "p (Holm)"]
    head.append("runs")
    lines = [f"# {made.name[:5].title()} {made.name[5:]}: {made.table.title}", "", *_about(made, command), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in made.rows:
        cells = [row.name, *_columns(made, row).values()]
        for metric in metrics:
            cells += [_figure(row.paper, metric, row.paper.get(f"{metric}_std"))] if told[metric] else []
            cells.append(_ours(row, metric))
        cells += _against(made, row)
        lines.append("| " + " | ".join([*cells, ", ".join(f"`{run}`" for run in row.runs)]) + " |")
    lines += ["", *(f"* {row.name}: {row.failed}" for row in made.rows if row.failed)]
    lines += ["", *(f"* {row.name} by its search: {'; '.join(row.searched)}" for row in made.rows if row.searched)]
    return "\n".join(lines).rstrip() + "\n"


def _against(made: MadeTable, row: MadeRow) -> list[str]:
    if not made.table.against:
        return []
    if row.compared is None:
        return ["reference" if row.name in made.table.against.values() else "-", "-"]
    one = row.compared
    if one.few:
        return [f"{one.value:+.1f}", "-"]
    return [f"{one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]", f"{one.p_holm:.2g}" if one.p_holm < 1 else "1"]


def _about(made: MadeTable, command: str) -> list[str]:
    protocol = made.protocol
    seeds = "one seed" if protocol["seeds"] == 1 else f"{protocol['seeds']} seeds"
    length = "" if protocol["epochs"] is None else f", {protocol['epochs']} epochs at most"
    length += "" if protocol["batch_size"] is None else f", batches of {protocol['batch_size']} slides"
    length += {"balanced": ", classes weighted", "sampled": ", classes drawn evenly"}.get(protocol["class_weights"], "")
    used = "; of the second features ".join(dict.fromkeys(map(str, made.uses)))
    told = [
        f"Ours: {made.cohort}, {used}, {_folds(protocol)}, {seeds}, the "
        f"{protocol['recipe']} recipe{length}; mean ± standard deviation over folds and seeds. Paper: "
        f"{made.beside.upper()}. Other slides and other features: compare orderings, not numbers.",
        "",
        f"`{command}`",
    ]
    if protocol["search"]:
        space = "; ".join(f"{name} {values}" for name, values in protocol["search"]["space"].items())
        told += [
            "",
            f"Searched in every fold by its validation part, {protocol['search']['trials']} trainings each, of what a "
            f"model has and its row leaves open: {space}.",
        ]
    if made.pending:
        verb = "is" if len(made.pending) == 1 else "are"
        still = ", ".join(made.pending)
        told += ["", f"Unfinished: {len(made.pending)} of {len(made.rows)} rows {verb} to come: {still}."]
    told += _trained_by(made)
    told += _refused(made)
    told += ["", f"Measured: one slide of {made.measured}, medians of {PROCESSES} processes."] if made.measured else []
    if any(row.shared for row in made.rows) and not TIMED.isdisjoint(made.table.metrics):
        told += [
            "",
            "Seconds of runs that were trained beside others (--jobs) are left out; without --jobs, into a folder of "
            "its own, the table has them.",
        ]
    elif "epoch_s" in made.table.metrics and any(
        row.runs and not row.failed and "epoch_s" not in row.ours for row in made.rows
    ):
        told += ["", "Runs of earlier versions have not taken down an epoch's seconds."]
    told += _how_compared(made)
    return [*told, "", made.table.remark] if made.table.remark else told


def _how_compared(made: MadeTable) -> list[str]:
    """Say what differences are of, if there are any; rows of other features may be of other patients."""
    all_of_them = [row.compared for row in made.rows if row.compared]
    if not all_of_them:
        return []
    few = [one.patients for one in all_of_them if one.few]
    once, metric = made.protocol["seeds"] == 1, _WORDS[made.table.compared_by].removesuffix(" (%)")
    reference = made.table.reference if isinstance(made.table.reference, str) else "the reference"
    sure = _INTERVAL.format(drawn="patients" if once else "patients and trainings", once=_ONCE if once else "")
    told = sure if len(few) < len(all_of_them) else ""
    told += _NO_WIDTH if any(one.high - one.low < _NARROW for one in all_of_them if not one.few) else ""
    told += _FEW.format(patients=min(few), least=FEW_PATIENTS) if few else ""
    return ["", _COMPARED.format(metric=metric, reference=reference, interval=told)]


def _trained_by(made: MadeTable) -> list[str]:
    """Say what trained, if it is not one version for all."""
    several = sorted({by for row in made.rows for by in row.trained_by})
    told = f"Trained by {len(several)} versions, which {made.name}.json names row by row: {'; '.join(several)}."
    return ["", told] if len(several) > 1 else []


def _refused(made: MadeTable) -> list[str]:
    """Give the first reasons; a cohort may have thousands."""
    reasons = list(made.refused.items())
    told = [line for slide, reason in reasons[:_REFUSED_SHOWN] for line in ("", f"Refused: {slide}: {reason}.")]
    more = len(reasons) - _REFUSED_SHOWN
    return [*told, "", f"Refused: {more:,} more, with their reasons in {made.name}.json."] if more > 0 else told


def _folds(protocol: Mapping[str, Any]) -> str:
    if protocol["splits"]:
        return f"the partitions of {', '.join(protocol['splits'])}"
    folds = "the folds of its table, or five" if protocol["folds"] is None else f"{protocol['folds']} folds"
    return folds if protocol["group"] == "patient" else f"{folds}, whole sites"


def _ours(row: MadeRow, metric: str) -> str:
    if metric not in row.ours:
        return "not measured" if row.runs else _NOT_RUN
    of_all = f" ({row.finished} folds)" if row.finished and metric not in MEASURED else ""
    return _figure(row.ours, metric, row.ours_std.get(metric)) + of_all


def _figure(values: Mapping[str, float], metric: str, std: float | None) -> str:
    if metric not in values:
        return "-"
    digits = _DIGITS.get(metric, 1)
    return f"{values[metric]:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")
