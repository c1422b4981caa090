"""``dtcwsi predict``: classes and probabilities of new slides."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.cli.console import complain, count, print_json, say, some
from dtcwsi.cli.inputs import Input, Reading, bring_features
from dtcwsi.cli.options import DEFAULT_WORKERS, Device, Json, RunEncoder, Spacing, Workers
from dtcwsi.errors import DtcwsiError

if TYPE_CHECKING:
    from dtcwsi.inference import Run, SlidePrediction

__all__ = ["empty_row", "predict_inputs", "row_of", "run", "warn"]


def run(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or one fold of it.", show_default=False)],
    inputs: Annotated[list[Path], typer.Argument(metavar="SLIDE_OR_FEATURES...", show_default=False, readable=False)],
    out: Annotated[Path | None, typer.Option("--out", help="CSV to write; the screen without.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Keeps what is extracted from slides; RUN/predicted without.")
    ] = None,
    encoder: RunEncoder = None,
    spacing: Spacing = None,
    workers: Workers = DEFAULT_WORKERS,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Classify slides or feature files by the mean of the run's folds; one row a slide."""
    from dtcwsi.inference import load_run
    from dtcwsi.store.atomic import check_new_file, write_text
    from dtcwsi.store.tables import csv_text

    trained = load_run(run)
    if out is not None:
        check_new_file(out)
    reading = Reading(work or run / "predicted", encoder, spacing, workers, device)
    rows = predict_inputs(trained, bring_features(trained, inputs, reading))
    table, failed = csv_text(rows), sum(row["prediction"] == "" for row in rows)
    if out is not None:
        write_text(out, table)
        say(f"{count(len(rows), 'slide')}{f', {failed:,} failed' if failed else ''}: {out}")
    warn(trained, rows)
    if as_json:
        print_json(rows)
    elif out is None:
        typer.echo(table, nl=False)
    return 1 if failed else 0


def predict_inputs(trained: "Run", inputs: list[Input]) -> list[dict[str, str]]:
    """Classify every input; a slide that fails keeps its row, with the reason as warning."""
    from dtcwsi.inference import predict_file

    rows = []
    for item in inputs:
        try:
            if item.features is None:  # told while slides were read
                rows.append(empty_row(trained, item.slide_id, item.failure))
                continue
            rows.append(row_of(trained, predict_file(trained, item.features)))
        except DtcwsiError as error:
            complain(f"{item.slide_id}: {error}")
            rows.append(empty_row(trained, item.slide_id, str(error)))
    return rows


def row_of(trained: "Run", found: "SlidePrediction") -> dict[str, str]:
    """Write a slide's prediction as a row."""
    row = empty_row(trained, found.slide_id, "")
    row |= {
        f"prob_{name}": f"{value:.6f}" for name, value in zip(trained.class_names, found.probabilities, strict=True)
    }
    std = "" if found.std is None else f"{found.std:.6f}"
    return row | {"prediction": found.prediction, "prob_std": std, "warning": found.warning}


def empty_row(trained: "Run", slide_id: str, failure: str) -> dict[str, str]:
    """Write the row of a slide without prediction, and why."""
    cells = dict.fromkeys([f"prob_{name}" for name in trained.class_names] + ["prob_std"], "")
    return {"slide_id": slide_id, "prediction": "", **cells, "warning": f"failed: {failure}"}


def warn(trained: "Run", rows: list[dict[str, str]]) -> None:
    """Say which rows are no predictions of a new slide."""
    known = [row["slide_id"] for row in rows if "in_training" in row["warning"].split("; ")]
    if known:
        say(
            f"warning: {trained.folder} was trained on {count(len(known), 'slide')} of these ({some(known)}; "
            "in_training): such probabilities are too sure; the run's predictions.csv has out-of-fold ones"
        )
    bare = [row["slide_id"] for row in rows if "no_tissue" in row["warning"].split("; ")]
    if bare:
        say(
            f"warning: {count(len(bare), 'slide')} without tissue ({some(bare)}; no_tissue): no prediction, the "
            "probabilities are the classes' shares in training"
        )
