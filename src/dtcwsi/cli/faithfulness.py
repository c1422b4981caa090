"""``dtcwsi faithfulness``: whether the maps of a run can be trusted, as a table, curves and a page."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dtcwsi.cli.console import Progress, command_line, complain, count, print_json, print_table, say, some
from dtcwsi.cli.labels import tell_overlooked
from dtcwsi.cli.options import Json, Out
from dtcwsi.errors import DtcwsiError, UsageError

if TYPE_CHECKING:
    from dtcwsi.benchmark.faithfulness import RunScores
    from dtcwsi.explain.faithfulness.table import Estimate
    from dtcwsi.inference import Run

__all__ = ["run"]

_RECORD = "faithfulness.json"
_SHOWN = ("deletion_gain", "insertion_gain", "lesion_auroc", "folds_spearman", "redrawn_both")


def run(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or one fold of it.", show_default=False)],
    features: Annotated[Path, typer.Option("--features", help="Folder of feature files.", show_default=False)],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Table whose slides are measured, and their patients.")
    ] = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of masks ID.png, white in the lesion.")] = None,
    truth_downsample: Annotated[
        float, typer.Option("--truth-downsample", min=0.01, help="Level-0 pixels that a pixel of a mask covers.")
    ] = 16.0,
    other_run: Annotated[
        list[Path] | None, typer.Option("--other-run", help="Run by another seed, to compare maps with; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random orders and weights drawn anew.")] = 0,
    as_json: Json = False,
) -> int:
    """Ask whether a run's maps show what its decisions rest on, each slide by the models not trained on it."""
    from dtcwsi.bags.cohort import read_labels
    from dtcwsi.benchmark.faithfulness import measure_run
    from dtcwsi.explain.faithfulness import Draws
    from dtcwsi.explain.record import check_models
    from dtcwsi.inference import load_run
    from dtcwsi.store.atomic import check_writable
    from dtcwsi.store.features import feature_files

    trained, others = load_run(run), [load_run(other) for other in other_run or ()]
    _check_same(trained, others)
    files = feature_files(features)
    patients = None
    if labels is not None:
        tell_overlooked(labels)
        patients = {slide.slide_id: slide.patient_id for slide in read_labels(labels)}
        files = {slide_id: path for slide_id, path in files.items() if slide_id in patients}
        if not files:
            raise UsageError(f"no slide of {labels} has a feature file in {features}; name the folder of its features")
    if truth is not None and not truth.is_dir():
        raise UsageError(
            f"{truth} is no folder; expected masks named after the slides, such as {next(iter(files))}.png"
        )
    check_writable(out)
    if (out / _RECORD).is_file():
        check_models(out / _RECORD, trained.models, "what was measured")
    with Progress(len(files), "slides") as progress:
        found = measure_run(
            trained,
            files,
            patients=patients,
            others=others,
            truth=truth,
            truth_downsample=truth_downsample,
            draws=Draws(seed=seed),
            on_slide=lambda slide_id: progress.item(slide_id, quiet=True),
        )
    for slide_id, reason in found.failed.items():
        complain(f"{slide_id}: {reason}")
    if not found.slides:
        raise DtcwsiError(f"none of {count(len(files), 'slide')} could be measured; the reasons are above")
    _tell(found)
    means = _write(out, trained, found)
    if as_json:
        print_json(_content(trained, found, means))
    else:
        shown = [measure for measure in _SHOWN if any(measure in row for row in means.values())]
        rows = {name: [_figure(row.get(one)) for one in shown] for name, row in means.items()}
        print_table(["map", *shown], [[name, *row] for name, row in rows.items() if any(row)])
        say(f"{count(len(found.slides), 'slide')}; table, curves and page in {out}")
    return 1 if found.failed else 0


def _check_same(trained: "Run", others: "list[Run]") -> None:
    name = trained.models[0].name
    for other in others:
        if other.folder.resolve() == trained.folder.resolve():
            raise UsageError(f"--other-run {other.folder} is the run itself; expected another training of its model")
        if other.models[0].name != name or other.class_names != trained.class_names:
            raise UsageError(
                f"{other.folder} holds {other.models[0].name} of {', '.join(other.class_names)}; expected another "
                f"training of {name} of {', '.join(trained.class_names)}, as in {trained.folder}"
            )


def _tell(found: "RunScores") -> None:
    for why, slides in {
        "that every model asked was trained on; these figures are too good": found.in_training,
        "without tissue, not measured": found.no_tissue,
        "without a mask in the truth folder": found.without_truth,
        "of the labels without features, not measured": found.without_features,
    }.items():
        if slides:
            say(f"warning: {count(len(slides), 'slide')} {why} ({some(slides)})")


def _write(out: Path, trained: "Run", found: "RunScores") -> "dict[str, dict[str, Estimate]]":
    """Write slides.csv, faithfulness.json, the curves and the page.  Returns: the means."""
    from dtcwsi.explain.faithfulness.drawing import draw_curves
    from dtcwsi.explain.faithfulness.page import markdown_page
    from dtcwsi.explain.faithfulness.table import MEASURES, estimates, rows_of
    from dtcwsi.store.atomic import write_bytes, write_json, write_text
    from dtcwsi.store.tables import write_table

    columns = ("slide_id", "patient_id", "prediction", "probability", "patches", "models", "map", *MEASURES)
    rows = [
        (
            one.slide_id,
            patient,
            one.prediction,
            f"{one.probability:.6g}",
            one.n_patches,
            one.n_models,
            name,
            *("" if value is None else f"{value:.6g}" for value in row.values()),
        )
        for one, patient in zip(found.slides, found.patients, strict=True)
        for name, row in rows_of(one).items()
    ]
    write_table(out / "slides.csv", columns, rows)
    means = estimates(found.slides, found.patients)
    write_json(out / _RECORD, _content(trained, found, means))
    title = f"Faithfulness of {trained.models[0].name}, {count(len(found.slides), 'slide')}"
    for kind, content in draw_curves(found.slides, found.patients, title).items():
        write_bytes(out / f"curves.{kind}", content)
    write_text(out / "faithfulness.md", markdown_page(title, means, facts=_facts(found), figure="curves.svg"))
    return means


def _facts(found: "RunScores") -> list[str]:
    return [
        f"`{command_line()}`",
        f"{count(len(found.slides), 'slide')} of {count(len(set(found.patients)), 'patient')}, "
        f"{len(found.in_training)} of them trained on by every model asked; "
        f"{len(found.without_features) + len(found.failed)} more could not be measured or have no features",
        "mean over slides (95 % interval, patients drawn with replacement); one row a slide and map in `slides.csv`",
    ]


def _content(trained: "Run", found: "RunScores", means: "dict[str, dict[str, Estimate]]") -> dict[str, Any]:
    from dtcwsi.explain.record import models_digest

    return {
        "run": str(trained.folder),
        "digest": models_digest(trained.models),
        "model": trained.models[0].name,
        "command": command_line(),
        "n_slides": len(found.slides),
        "n_patients": len(set(found.patients)),
        "in_training": found.in_training,
        "no_tissue": found.no_tissue,
        "without_truth": found.without_truth,
        "without_features": found.without_features,
        "failed": found.failed,
        "means": {
            name: {measure: asdict(estimate) for measure, estimate in row.items()} for name, row in means.items()
        },
    }


def _figure(found: "Estimate | None") -> str:
    if found is None:
        return ""
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.mean:.3f}{interval}"
