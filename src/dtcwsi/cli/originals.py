"""The slide under a drawing: the one that was named, or the one that features were made from."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.cli.console import say
from dtcwsi.cli.inputs import Input
from dtcwsi.errors import SlideError, UsageError

if TYPE_CHECKING:
    from dtcwsi.explain.origin import Origin
    from dtcwsi.types import SlideReader

__all__ = ["Slides", "check_place", "original"]

Slides = Annotated[
    Path | None,
    typer.Option("--slides", metavar="FOLDER", help="Where the slides of feature files are, if they have moved."),
]


def check_place(folder: Path | None) -> None:
    """Make sure that the place of the slides is there, before anything is drawn.  Raises: UsageError if not."""
    if folder is not None and not folder.exists():
        raise UsageError(f"--slides {folder} does not exist; expected the folder that holds the slides")


@contextmanager
def original(
    named: Input, origin: "Origin", folder: Path | None, spacing_um: float | None
) -> "Iterator[SlideReader | None]":
    """Open the slide that was named, or found for a feature file; None, and a warning, where it is not found.

    Raises: SlideError if a slide of ``folder`` is missing or another, or a slide cannot be opened.
    """
    from dtcwsi.explain.origin import check_size
    from dtcwsi.slides import open_slide

    path = named.slide or _found(origin, folder)
    if path is None:
        yield None
        return
    made_at = origin.spacing_um  # which the user may have set over what the file records
    with closing(open_slide(path, spacing_um=made_at or spacing_um, override=made_at is not None)) as slide:
        check_size(origin, slide.info)
        yield slide


def _found(origin: "Origin", folder: Path | None) -> Path | None:
    from dtcwsi.explain.origin import find_original

    if folder is None and origin.path is None:
        return None
    try:
        return find_original(origin, folder)
    except SlideError as error:
        if folder is not None:
            raise
        say(f"warning: {error}; drawn without the slide")
        return None
