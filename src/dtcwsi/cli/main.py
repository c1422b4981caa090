"""The command ``dtcwsi``: finds the subcommand, turns errors into one sentence and an exit status."""

import logging
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from dtcwsi.cli import (
    audit_splits,
    bench,
    cohort,
    demo,
    doctor,
    evaluate,
    explain,
    extract,
    faithfulness,
    heatmap,
    listing,
    predict,
    report,
    train,
)
from dtcwsi.cli.console import complain
from dtcwsi.errors import DtcwsiError, UsageError

__all__ = ["app", "main"]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dtcwsi {version('dtcwsi')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Whole-slide images and slide labels in; trained classifiers, predictions and pictures out."""


app.command("demo")(demo.run)
app.command("extract")(extract.extract)
app.command("segment")(extract.segment)
app.command("patch")(extract.patch)
app.command("encode")(extract.encode)
app.command("cohort")(cohort.run)
app.command("train")(train.run)
app.command("evaluate")(evaluate.run)
app.command("predict")(predict.run)
app.command("explain")(explain.run)
app.command("faithfulness")(faithfulness.run)
app.command("heatmap")(heatmap.run)
app.command("report")(report.run)
app.command("bench")(bench.run)
app.command("audit-splits")(audit_splits.run)
app.command("models")(listing.models)
app.command("encoders")(listing.encoders)
app.command("doctor")(doctor.run)


_INTERRUPTED = 130  # newer typer turns Ctrl-C into this status itself
_ArgumentError: type[Exception] = typer.BadParameter.__mro__[1]  # typer re-exports only this leaf of its tree


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit status: 0 all done; 1 some or all slides or folds failed; 2 before any work; 130 on Ctrl-C.
    """
    sys.exit(status_of(sys.argv[1:] if arguments is None else arguments))


def status_of(arguments: list[str]) -> int:
    """Run one command.  Returns: the exit status."""
    _quieten()
    status = _status(arguments)
    if status == _INTERRUPTED:
        complain("interrupted; what was finished is kept, run the same command again to go on")
    return status


def _status(arguments: list[str]) -> int:
    try:
        outcome = typer.main.get_command(app).main(arguments, prog_name="dtcwsi", standalone_mode=False)
    except _ArgumentError as error:
        error.show()  # type: ignore[attr-defined]
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except UsageError as error:
        complain(str(error))
        return 2
    except DtcwsiError as error:
        complain(str(error))
        return 1
    return outcome if isinstance(outcome, int) else 0


def _quieten() -> None:
    """Libraries' chatter that no user can act on; errors still come as exceptions."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch.utils.data")
