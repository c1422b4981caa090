"""What a command says of a labels table before it works with it."""

from pathlib import Path

from dtcwsi.cli.console import say

__all__ = ["tell_overlooked"]


def tell_overlooked(labels: Path) -> None:
    """Warn of columns that are ignored and look mistyped.  Raises: CohortError if the table cannot be read."""
    from dtcwsi.bags.cohort import overlooked_columns

    for column, meant in overlooked_columns(labels).items():
        say(f"warning: the column {column!r} of {labels} is not used; if it is meant as {meant!r}, rename it")
