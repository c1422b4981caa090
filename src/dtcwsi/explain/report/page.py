"""One self-contained HTML file about runs and slides: no script, nothing fetched, opens from disk."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from dtcwsi.explain.report.charts import forest_rows, roc_lines, stages
from dtcwsi.explain.figures.painting import FATE_COLOURS, attention_colours
from dtcwsi.explain.report.runs import METRICS, RunSummary, read_run
from dtcwsi.explain.slide import ExplainedSlide
from dtcwsi.metrics import METRICS as DEFINED
from dtcwsi.metrics import Difference, difference
from dtcwsi.store.atomic import write_text
from dtcwsi.store.tables import read_rows

__all__ = ["write_report"]

_GRADIENT_STEPS = 10


@dataclass(frozen=True)
class _HeldOut:
    """What a run says of a slide out of fold."""

    prediction: str
    probability: float


@dataclass(frozen=True)
class _Card:
    """A slide as the report shows it; ``held_out`` is None if the slide is in no run of its model."""

    slide: ExplainedSlide
    images: Mapping[str, str]
    held_out: _HeldOut | None


def write_report(
    path: Path,
    *,
    title: str,
    runs: Sequence[Path] = (),
    slides: Sequence[ExplainedSlide] = (),
    extraction: Path | None = None,
    seconds: Mapping[str, float] | None = None,
    facts: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    slides_first: bool = False,
) -> None:
    """Write the report of trained runs and explained slides.

    ``runs`` are run folders, the first being what the others are compared with; ``extraction`` is the output folder of
    extract, for the seconds of its stages and the slides left out. ``seconds`` are further stages by name, ``facts``
    further rows of what was run (such as the command), ``notes`` say what the numbers are not. With ``slides_first``
    the page is about its slides: they open it, and no time is told, since the runs' is of their training.
    Raises: UsageError if a run folder holds no finished run; StoreError if the disk is full.
    """
    read = _named([read_run(folder) for folder in runs])
    tables = {
        name: read_rows(extraction / f"{name}.csv") if extraction else [] for name in ("slides", "failed", "empty")
    }
    context = {
        "title": title,
        "facts": {**(facts or {}), **_facts(read)},
        "notes": list(notes),
        "metric_names": METRICS,
        "runs": read,
        "fold_numbers": sorted({fold.number for run in read.values() for fold in run.folds}),
        "differences": _differences(read),
        "roc": roc_lines(read),
        "binary": all(len(run.classes) == 2 for run in read.values()),
        "forest": forest_rows(read),
        "stages": [] if slides_first else stages(tables["slides"], read, seconds or {}),
        "left_out": _left_out(tables["failed"], tables["empty"], read),
        "slides_first": slides_first,
        "cards": [_card(slide, read) for slide in slides],
        "gradient": _gradient(),
        "fate_colours": {name: "rgb({}, {}, {})".format(*colour) for name, colour in FATE_COLOURS.items()},
    }
    write_text(path, _environment().get_template("report.html.j2").render(context))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dtcwsi.explain.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["duration"] = _duration
    return environment


def _named(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """Name runs by model; by model and folder where two have one model."""
    models = [run.model for run in runs]
    return {
        run.model if models.count(run.model) == 1 else f"{run.model} ({run.folder.parent.name}/{run.folder.name})": run
        for run in runs
    }


def _facts(runs: Mapping[str, RunSummary]) -> dict[str, object]:
    if not runs:
        return {}
    first = next(iter(runs.values()))
    counts = np.bincount(first.labels, minlength=len(first.classes)).tolist()
    told: dict[str, object] = {
        "Cohort": f"{first.n_slides} slides of {first.n_patients} patients",
        "Classes": ", ".join(f"{name} ({count})" for name, count in zip(first.classes, counts, strict=True)),
        "Folds": f"{len(first.folds)}, {first.folds_by}",
        "Seed": "not recorded" if first.seed is None else first.seed,
    }
    mixed = _patients_of_several_classes(first)
    if mixed:
        told["Patients with slides of several classes"] = ", ".join(mixed)
    if first.recipe:
        told["Training"] = ", ".join(f"{name} {value}" for name, value in first.recipe.items())
    for name, run in runs.items():
        if run.options:
            told[f"Options of {name}, defaults aside"] = ", ".join(
                f"{option} {value}" for option, value in run.options.items()
            )
    if first.versions:
        told["Versions"] = ", ".join(f"{name} {value}" for name, value in first.versions.items())
    return told


def _patients_of_several_classes(run: RunSummary) -> list[str]:
    labels: dict[str, set[int]] = {}
    for patient, label in zip(run.patients, run.labels.tolist(), strict=True):
        labels.setdefault(patient, set()).add(label)
    return sorted(patient for patient, own in labels.items() if len(own) > 1)


def _differences(runs: Mapping[str, RunSummary]) -> dict[str, Difference]:
    """Each later run's AUC minus the first's, on the slides and patients of both."""
    if len(runs) < 2:
        return {}
    first = next(iter(runs.values()))
    place = {test: index for index, test in enumerate(_tests(first))}
    found = {}
    for name, run in list(runs.items())[1:]:
        tests = _tests(run)
        mine = [index for index, test in enumerate(tests) if test in place]
        theirs = [place[tests[index]] for index in mine]
        if not mine or run.classes != first.classes or (run.labels[mine] != first.labels[theirs]).any():
            continue
        patients = [run.patients[index] for index in mine]
        pair = run.probabilities[mine], first.probabilities[theirs]
        found[name] = difference(DEFINED["auc"], run.labels[mine], *pair, patients)
    return {name: one for name, one in found.items() if one is not None}


def _tests(run: RunSummary) -> list[tuple[str, int]]:
    """Tell a slide's first test from its second, which partitions of split files may have."""
    seen: dict[str, int] = {}
    tests = []
    for slide in run.slide_ids:
        seen[slide] = seen.get(slide, 0) + 1
        tests.append((slide, seen[slide]))
    return tests


def _left_out(
    failed: Sequence[Mapping[str, str]], empty: Sequence[Mapping[str, str]], runs: Mapping[str, RunSummary]
) -> list[tuple[str, str]]:
    """Slides without a result and why, each reason once."""
    rows = [(row.get("slide", "?"), f"failed at {row.get('step', '?')}: {row.get('reason', '')}") for row in failed]
    rows += [(row.get("slide_id", "?"), "no tissue") for row in empty]
    rows += [pair for run in runs.values() for pair in run.left_out]
    rows += [
        (f"fold {fold} of {name}", f"failed: {reason}")
        for name, run in runs.items()
        for fold, reason in run.failed_folds.items()
    ]
    return list(dict.fromkeys(rows))


def _card(slide: ExplainedSlide, runs: Mapping[str, RunSummary]) -> _Card:
    images = {name: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for name, jpeg in slide.panels.items()}
    run = next((run for run in runs.values() if run.model == slide.model and slide.slide_id in run.slide_ids), None)
    if run is None:
        return _Card(slide, images, None)
    chances = run.probabilities[run.slide_ids.index(slide.slide_id)]
    return _Card(slide, images, _HeldOut(run.classes[int(chances.argmax())], float(chances.max())))


def _gradient() -> str:
    colours = attention_colours()
    chosen = colours[np.linspace(0, len(colours) - 1, _GRADIENT_STEPS).round().astype(int)].tolist()
    return ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in chosen)


def _number(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None or not np.isfinite(value) else f"{value:,.{digits}f}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
