"""``dtcwsi heatmap``: where a run looked in many slides, to the pixel."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dtcwsi.cli.console import complain, count, print_json, say
from dtcwsi.cli.inputs import Input, Reading, bring_features, check_places
from dtcwsi.cli.judges import judges_of
from dtcwsi.cli.options import DEFAULT_WORKERS, Device, Gzip, Json, Out, RunEncoder, Spacing, Table, Workers
from dtcwsi.cli.originals import Slides, check_place, original
from dtcwsi.cli.predict import empty_row, row_of, warn
from dtcwsi.errors import SlideError, UsageError, told_of

if TYPE_CHECKING:
    from dtcwsi.explain.exports import Exports
    from dtcwsi.explain.heatmap import SlideHeat
    from dtcwsi.explain.heatmap.scales import Scale
    from dtcwsi.inference import Run

__all__ = ["RECORD", "run"]

RECORD = "heatmaps.json"  # says that a folder holds heatmaps, so that they may be written anew


@dataclass(frozen=True)
class _Drawing:
    """What is drawn, and how."""

    out: Path
    scale: str
    class_name: str | None
    overlay: bool
    exports: "Exports"
    slides: Path | None
    spacing_um: float | None


def run(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or one fold of it.", show_default=False)],
    inputs: Annotated[list[Path], typer.Argument(metavar="SLIDE_OR_FEATURES...", show_default=False, readable=False)],
    out: Out,
    scale: Annotated[str, typer.Option("--scale", help="percentile, rank or share.")] = "percentile",
    together: Annotated[bool, typer.Option("--together", help="One scale over all slides.")] = False,
    class_name: Annotated[
        str | None, typer.Option("--class", help="The class whose attention is drawn, of models with a map a class.")
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Write ID.overlay.tif, a pyramid in register.")
    ] = True,
    qupath: Annotated[
        bool, typer.Option("--qupath/--no-qupath", help="Write ID.geojson (patches) and ID.outlines.geojson.")
    ] = True,
    table: Table = "csv",
    compressed: Gzip = False,
    slides: Slides = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Keeps what is extracted from slides; RUN/predicted without.")
    ] = None,
    encoder: RunEncoder = None,
    spacing: Spacing = None,
    workers: Workers = DEFAULT_WORKERS,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Draw heatmaps of slides or feature files in register with the slides, and tell what was predicted."""
    from dtcwsi.explain.exports import Exports
    from dtcwsi.explain.heatmap import SCALES
    from dtcwsi.explain.record import models_digest
    from dtcwsi.inference import load_run
    from dtcwsi.store.atomic import check_writable, write_json

    if scale not in SCALES:
        raise UsageError(f"got --scale {scale!r}; expected one of {', '.join(SCALES)}")
    drawing = _Drawing(out, scale, class_name, overlay, Exports(table, qupath, compressed), slides, spacing)
    check_place(slides)
    trained = load_run(run)
    if class_name is not None and class_name not in trained.class_names:
        raise UsageError(f"got --class {class_name!r}; expected one of {', '.join(trained.class_names)}")
    reading = Reading(work or run / "predicted", encoder, spacing, workers, device)
    how = {"scale": scale, "together": together, "class": class_name}
    _check_out(out, trained, how)
    check_writable(out)
    if class_name is not None:
        _check_maps(trained, class_name)
    check_places(inputs)
    write_json(out / RECORD, {"run": str(run), "digest": models_digest(trained.models), **how})
    found = bring_features(trained, inputs, reading)
    rows = _drawn_together(trained, found, drawing) if together else _drawn_alone(trained, found, drawing)
    _note(out, rows)
    warn(trained, rows)
    failed = sum(row["prediction"] == "" for row in rows)
    say(f"{count(len(rows) - failed, 'heatmap')} in {out}" + (f", {failed} failed" if failed else ""))
    if as_json:
        print_json(rows)
    return 1 if failed else 0


def _check_out(out: Path, trained: "Run", how: dict[str, Any]) -> None:
    """Keep heatmaps from taking the place of other files, or standing beside those by another run or scale.

    Raises: UsageError.
    """
    from dtcwsi.explain.record import check_models

    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise UsageError(f"{out} holds other files, which heatmaps might be written over; name another --out")
    check_models(out / RECORD, trained.models, "heatmaps")
    known = json.loads((out / RECORD).read_text(encoding="utf-8", errors="surrogateescape"))
    other = [f"{name} {known[name]}" for name in how if name in known and known[name] != how[name]]
    if other:
        raise UsageError(f"{out} holds heatmaps by {', '.join(other)}; name another --out for these")


def _note(out: Path, rows: list[dict[str, str]]) -> None:
    """Write predictions.csv; rows of slides that were drawn before stay."""
    from dtcwsi.store.atomic import write_text
    from dtcwsi.store.tables import csv_text, read_rows

    place = out / "predictions.csv"
    now = {row["slide_id"] for row in rows}
    before = [row for row in read_rows(place) if row["slide_id"] not in now] if place.is_file() else []
    write_text(place, csv_text([*before, *rows]))


def _check_maps(trained: "Run", class_name: str) -> None:
    """Make sure that the models have a map a class, before slides are read.  Raises: UsageError."""
    import numpy as np

    from dtcwsi.ensemble import ask
    from dtcwsi.types import Features

    blank = np.zeros((1, trained.models[0].in_dim), np.float32)
    ask(trained.models[:1], Features("blank", blank, np.zeros((1, 2), np.int64), 256.0, None)).attention(class_name)


def _drawn_alone(trained: "Run", inputs: list[Input], drawing: _Drawing) -> list[dict[str, str]]:
    """Draw every slide on its own scale, one after the other."""
    from dtcwsi.explain.heatmap import scale_over

    rows = []
    for item in inputs:
        row, heat = _asked(trained, item, drawing)
        if heat is not None:
            row = _drawn(item, heat, scale_over(drawing.scale, [heat.shares]), row, drawing)
        rows.append(row)
        _note(drawing.out, [row])
    return rows


def _drawn_together(trained: "Run", inputs: list[Input], drawing: _Drawing) -> list[dict[str, str]]:
    """Ask about all slides first, which keeps about 100 bytes a patch, and draw them on one scale."""
    from dtcwsi.explain.heatmap import scale_over

    asked = [(item, *_asked(trained, item, drawing)) for item in inputs]
    scale = scale_over(drawing.scale, [heat.shares for _, _, heat in asked if heat is not None])
    return [row if heat is None else _drawn(item, heat, scale, row, drawing) for item, row, heat in asked]


def _asked(trained: "Run", item: Input, drawing: _Drawing) -> "tuple[dict[str, str], SlideHeat | None]":
    """Ask the models that never saw a slide, as `evaluate` does; a slide that fails keeps its row, with the reason."""
    from dtcwsi.ensemble import ask
    from dtcwsi.explain.heatmap import heat_of
    from dtcwsi.inference import judged
    from dtcwsi.store.features import read_features, read_header

    if item.features is None:  # told while slides were read
        return empty_row(trained, item.slide_id, item.failure), None
    try:
        header = read_header(item.features)
        judges, told = judges_of(trained, header)
        features = read_features(item.features)
        answers = ask(judges.models, features)
        heat = heat_of(features, answers, told, drawing.class_name)
        return row_of(trained, judged(judges, header, answers)), heat
    except UsageError:  # what no other slide would be spared
        raise
    except Exception as error:  # noqa: BLE001 - one slide, whatever it holds, is not all
        complain(f"{item.slide_id}: {told_of(error)}")
        return empty_row(trained, item.slide_id, told_of(error)), None


def _drawn(item: Input, heat: "SlideHeat", scale: "Scale", row: dict[str, str], drawing: _Drawing) -> dict[str, str]:
    """Write a slide's files.  Returns: its row, or what went wrong in its place."""
    from dtcwsi.explain.heatmap import write_heatmap
    from dtcwsi.explain.origin import read_origin

    assert item.features is not None
    try:
        if item.slide_id == "predictions":
            raise SlideError("a table named 'predictions' would take the place of that of all slides; rename the file")
        origin = read_origin(item.features)
        with original(item, origin, drawing.slides, drawing.spacing_um) as slide:
            write_heatmap(
                heat, scale, drawing.out, slide, origin=origin, overlay=drawing.overlay, exports=drawing.exports
            )
        doubts = [row["warning"], "no_slide_file" if slide is None else ""]
    except Exception as error:  # noqa: BLE001 - as above
        complain(f"{item.slide_id}: {told_of(error)}")
        return {name: "" for name in row} | {"slide_id": item.slide_id, "warning": f"failed: {told_of(error)}"}
    return row | {"warning": "; ".join(filter(None, doubts))}
