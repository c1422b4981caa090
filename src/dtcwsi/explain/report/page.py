"""One self-contained HTML file about runs and slides: nothing is fetched, it opens from disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dtcwsi.explain.figures.painting import FATE_COLOURS
from dtcwsi.explain.report.audit import audits
from dtcwsi.explain.report.cards import card_of, gradient
from dtcwsi.explain.report.cases import hard_cases
from dtcwsi.explain.report.charts import calibrations, forest_rows, precision_recall_lines, roc_lines, token_plot
from dtcwsi.explain.report.confusion import confusions
from dtcwsi.explain.report.environment import page_environment, viewer_script
from dtcwsi.explain.report.facts import check_one_task, differences, gone_folds, left_out, other_slides, run_facts
from dtcwsi.explain.report.runs import FURTHER_METRICS, METRICS, RunSummary, read_run
from dtcwsi.explain.report.stages import stages
from dtcwsi.explain.slide import ExplainedSlide
from dtcwsi.metrics import METRICS as DEFINED
from dtcwsi.store.atomic import write_text
from dtcwsi.store.tables import read_rows

__all__ = ["write_report"]


def write_report(
    path: Path,
    *,
    title: str = "",
    runs: Sequence[Path] = (),
    slides: Sequence[ExplainedSlide] = (),
    extraction: Path | None = None,
    slide_files: Mapping[str, Path] | None = None,
    seconds: Mapping[str, float] | None = None,
    peak_bytes: Mapping[str, int | None] | None = None,
    facts: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    slides_first: bool = False,
) -> None:
    """Write the report of trained runs and explained slides; without a title it has the runs' names.

    ``runs`` are run folders, the first being what the others are compared with; ``extraction`` is the output folder of
    extract, for the seconds of its stages, the slides left out and, where ``slide_files`` (by slide id) do not say, the
    files that thumbnails are read from. ``seconds`` are further stages by name and ``peak_bytes`` the memory of stages,
    ``facts`` further rows of what was run (such as the command), ``notes`` say what the numbers are not. With
    ``slides_first`` the page is about its slides: they open it, and no time is told, since the runs' is of their
    training.
    Raises: UsageError if a run folder holds no finished run, or runs are of other classes; StoreError if the disk is
    full.
    """
    read = _named([read_run(folder) for folder in {folder.resolve(): folder for folder in runs}.values()])
    check_one_task(read)
    tables = {
        name: read_rows(extraction / f"{name}.csv") if extraction else [] for name in ("slides", "failed", "empty")
    }
    files = _slide_files(tables["slides"], extraction or Path()) | dict(slide_files or {})
    script, script_source = viewer_script()
    context = {
        "title": title or ", ".join(read),
        "facts": {**(facts or {}), **run_facts(read)},
        "notes": [*notes, *gone_folds(read), *other_slides(read)],
        "runs": read,
        **_results(read),
        "cases": None if slides_first else hard_cases(read, files),
        "stages": [] if slides_first else stages(tables["slides"], read, seconds or {}, peak_bytes or {}),
        "left_out": left_out(tables["failed"], tables["empty"], read),
        "slides_first": slides_first,
        "cards": [card_of(slide, read) for slide in slides],
        "gradient": gradient(),
        "fate_colours": {name: "rgb({}, {}, {})".format(*colour) for name, colour in FATE_COLOURS.items()},
        "script": script,
        "script_source": script_source,
    }
    write_text(path, page_environment().get_template("report.html.j2").render(context))


def _slide_files(rows: Sequence[Mapping[str, str]], extraction: Path) -> dict[str, Path]:
    """Find slides where extract read them, or in a folder of slides beside its tables."""
    found: dict[str, Path] = {}
    for row in rows:
        read = Path(row.get("path") or row["slide_id"])
        places = (read, extraction / "slides" / read.name)
        found[row["slide_id"]] = next((place for place in places if place.exists()), read)
    return found


def _results(runs: Mapping[str, RunSummary]) -> dict[str, object]:
    """Everything that the page says of how good the runs are."""
    return {
        "metric_names": METRICS,
        "further_metrics": {
            name: (told, DEFINED[name].text)
            for name, told in FURTHER_METRICS.items()
            if any(name in run.metrics for run in runs.values())
        },
        "fold_numbers": sorted({fold.number for run in runs.values() for fold in run.folds}),
        "differences": differences(runs),
        "audits": audits(runs),
        "roc": roc_lines(runs),
        "precision_recall": precision_recall_lines(runs),
        "calibrations": calibrations(runs),
        "confusions": confusions(runs),
        "token_plot": token_plot(runs),
        "binary": all(len(run.classes) == 2 for run in runs.values()),
        "forest": forest_rows(runs),
    }


def _named(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """Name runs by model; where that is not enough by folder too, and where that is not either by its whole path."""
    places = [f"{run.folder.parent.name}/{run.folder.name}" for run in runs]
    choices = [
        (run.model, f"{run.model} ({place})", f"{run.model} ({run.folder.resolve()})")
        for run, place in zip(runs, places, strict=True)
    ]
    names: list[tuple[str, ...]] = list(zip(*choices, strict=True))
    return {
        next(name for name, alike in zip(own, names, strict=True) if alike.count(name) == 1): run
        for run, own in zip(runs, choices, strict=True)
    }
