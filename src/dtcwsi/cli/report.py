"""``dtcwsi report``: the page of one finished run, or of several side by side."""

from pathlib import Path
from typing import Annotated

import typer

from dtcwsi.cli.console import command_line, print_json, say
from dtcwsi.cli.options import Json

__all__ = ["run"]


def run(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders of `train`; the first is what others are compared with.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file to write.", show_default=False)],
    extraction: Annotated[
        Path | None,
        typer.Option(
            "--extraction", metavar="DIR", help="Output folder of extract: seconds, slides left out, thumbnails."
        ),
    ] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option(
            "--slides", help="Slide file or folder, for thumbnails where the extraction has moved or is gone."
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the page; the runs' names without.")] = "",
    as_json: Json = False,
) -> int:
    """Write the report of finished runs again, one or several side by side, as one HTML file."""
    from dtcwsi.errors import UsageError
    from dtcwsi.explain.report import write_report
    from dtcwsi.slides import slide_files
    from dtcwsi.store.atomic import check_new_file

    check_new_file(out)
    if extraction is not None and not (extraction / "slides.csv").is_file():
        raise UsageError(f"{extraction} holds no slides.csv; expected the --out folder of `dtcwsi extract`")
    files = {path.stem: path for path in slide_files(slides)} if slides else {}
    write_report(
        out,
        title=title,
        runs=runs,
        extraction=extraction,
        slide_files=files,
        facts={"Command": command_line()},
    )
    if as_json:
        print_json({"report": str(out), "runs": [str(folder) for folder in runs], "bytes": out.stat().st_size})
    else:
        say(f"report: {out}")
    return 0
