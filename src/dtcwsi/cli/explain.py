"""``dtcwsi explain``: pictures, a table and GeoJSON of one slide."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dtcwsi.cli.console import print_json, say
from dtcwsi.cli.inputs import Input, Reading, bring_features
from dtcwsi.cli.judges import judges_of
from dtcwsi.cli.options import DEFAULT_WORKERS, Device, Gzip, Json, Out, RunEncoder, Spacing, Table, Workers
from dtcwsi.cli.originals import Slides, check_place, original
from dtcwsi.errors import UsageError

if TYPE_CHECKING:
    from dtcwsi.explain import ExplainedSlide
    from dtcwsi.explain.exports import Exports
    from dtcwsi.explain.figures.drawing import Wanted
    from dtcwsi.inference import Run

__all__ = ["run"]


def run(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or one fold of it.", show_default=False)],
    slide: Annotated[
        Path, typer.Argument(help="Slide file, or feature file with coordinates.", show_default=False, readable=False)
    ],
    out: Out,
    work: Annotated[
        Path | None, typer.Option("--work", help="Keeps what is extracted from the slide; RUN/predicted without.")
    ] = None,
    encoder: RunEncoder = None,
    spacing: Spacing = None,
    workers: Workers = DEFAULT_WORKERS,
    device: Device = None,
    figures: Annotated[
        list[str] | None, typer.Option("--figure", help="Draw this figure alone (repeatable); all without.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="png, svg or pdf (repeatable); png without.")
    ] = None,
    retentions: Annotated[
        str,
        typer.Option("--retentions", help="Shares of tokens that figure3 and the page compare, as 1,0.5."),
    ] = "1,0.7,0.5,0.4",
    table: Table = "csv",
    compressed: Gzip = False,
    slides: Slides = None,
    as_json: Json = False,
) -> int:
    """Draw where a run looked, and which patches it kept, merged and pruned."""
    from dtcwsi.explain.exports import Exports
    from dtcwsi.explain.figures.drawing import FIGURES, Wanted
    from dtcwsi.explain.record import check_free
    from dtcwsi.explain.report import write_report
    from dtcwsi.inference import doubts, load_run
    from dtcwsi.slides.ome_zarr import ZARR_SUFFIX
    from dtcwsi.store.atomic import check_writable
    from dtcwsi.store.features import read_header

    wanted = Wanted(tuple(figures or FIGURES), tuple(formats or ["png"]), _shares(retentions))
    exports = Exports(table, compressed=compressed)
    check_place(slides)
    trained = load_run(run)
    if slide.is_dir() and slide.suffix.lower() != ZARR_SUFFIX:
        raise UsageError(f"{slide} is a folder; explain takes one slide or one feature file")
    reading = Reading(work or run / "predicted", encoder, spacing, workers, device)
    check_writable(out)
    check_free(out, slide.stem, trained.judges(slide.stem).models)
    found = bring_features(trained, [slide], reading)[0]
    if found.features is None:
        return 1  # told while the slide was read
    explained = _explained(trained, found, found.features, out, slides, spacing, wanted=wanted, exports=exports)
    doubted = doubts(trained.judges(explained.slide_id), read_header(found.features))
    report = out / "report.html"
    whole_runs = [run] if (run / "metrics.json").is_file() else []
    title = f"{explained.slide_id}: {explained.model}"
    write_report(report, title=title, runs=whole_runs, slides=[explained], notes=doubted, slides_first=True)
    if as_json:
        print_json(_facts(explained, doubted, report))
    else:
        prediction = f"{explained.prediction} ({explained.probability:.3f}) by {explained.model_told}"
        told = prediction if explained.tokens_in else "no tissue, no prediction"
        for doubt in doubted:
            say(f"warning: {explained.slide_id}: {doubt}")
        say(f"{explained.slide_id}: {told}; pictures and tables in {out}")
    return 0


def _explained(
    trained: "Run",
    named: Input,
    features: Path,
    out: Path,
    slides: Path | None,
    spacing_um: float | None,
    *,
    wanted: "Wanted",
    exports: "Exports",
) -> "ExplainedSlide":
    from dtcwsi.explain.origin import read_origin
    from dtcwsi.explain.slide import explain_slide
    from dtcwsi.store.features import read_features, read_header

    judges, told = judges_of(trained, read_header(features))
    bag, origin = read_features(features), read_origin(features)
    with original(named, origin, slides, spacing_um) as slide:
        return explain_slide(
            judges.models,
            bag,
            slide,
            out,
            true_label=trained.labels.get(bag.slide_id),
            models_told=told,
            unseen=bool(trained.not_trained_on(bag.slide_id)),
            spacing_um=origin.spacing_um,
            wanted=wanted,
            exports=exports,
            tissue=origin.tissue,
        )


def _facts(explained: "ExplainedSlide", doubted: list[str], report: Path) -> dict[str, Any]:
    return {
        "slide_id": explained.slide_id,
        "models": explained.model_told,
        "prediction": explained.prediction if explained.tokens_in else None,
        "probabilities": dict(explained.probabilities),
        "warning": "; ".join([*([] if explained.tokens_in else ["no_tissue"]), *doubted]),
        "tokens_in": explained.tokens_in,
        "tokens_out": explained.tokens_out,
        "files": {name: str(path) for name, path in {**explained.files, report.name: report}.items()},
    }


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise UsageError(f"got --retentions {text!r}; expected shares separated by commas, such as 1,0.7,0.4") from None
