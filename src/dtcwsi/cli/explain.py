"""``dtcwsi explain``: pictures, a table and GeoJSON of one slide."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dtcwsi.cli.console import print_json, say
from dtcwsi.cli.inputs import Reading, bring_features
from dtcwsi.cli.options import DEFAULT_WORKERS, Device, Json, Out, RunEncoder, Spacing, Workers
from dtcwsi.errors import SlideError, UsageError

__all__ = ["run"]


def run(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or one fold of it.", show_default=False)],
    slide: Annotated[Path, typer.Argument(help="Slide file, or feature file with coordinates.", show_default=False)],
    out: Out,
    work: Annotated[
        Path | None, typer.Option("--work", help="Keeps what is extracted from the slide; RUN/predicted without.")
    ] = None,
    encoder: RunEncoder = None,
    spacing: Spacing = None,
    workers: Workers = DEFAULT_WORKERS,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Draw where a run looked, and which patches it kept, merged and pruned."""
    from dtcwsi.explain.report import write_report
    from dtcwsi.explain.slide import explain_slide
    from dtcwsi.inference import load_run
    from dtcwsi.slides import open_slide
    from dtcwsi.store.features import read_features

    trained = load_run(run)
    if slide.is_dir():
        raise UsageError(f"{slide} is a folder; explain takes one slide or one feature file")
    found = bring_features(trained, [slide], Reading(work or run / "predicted", encoder, spacing, workers, device))[0]
    if found.features is None:
        raise SlideError(found.failure)
    features = read_features(found.features)
    if found.slide is None:
        explained = explain_slide(trained.models, features, None, out)
    else:
        with closing(open_slide(found.slide, spacing_um=spacing)) as opened:
            explained = explain_slide(trained.models, features, opened, out)
    write_report(out / "report.html", title=f"{found.slide_id}: {explained.model}", runs=[], slides=[explained])
    facts = {
        "slide_id": explained.slide_id,
        "prediction": explained.prediction,
        "probabilities": dict(explained.probabilities),
        "tokens_in": explained.tokens_in,
        "tokens_out": explained.tokens_out,
        "files": {name: str(path) for name, path in explained.files.items()},
    }
    if as_json:
        print_json(facts)
    else:
        say(f"{explained.slide_id}: {explained.prediction} ({explained.probability:.3f}); pictures and tables in {out}")
    return 0
