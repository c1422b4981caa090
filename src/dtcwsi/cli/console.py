"""What the commands say: results to stdout, everything else to stderr."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from tqdm import tqdm

from dtcwsi.store.atomic import plain

__all__ = ["Progress", "command_line", "complain", "count", "print_json", "print_table", "say", "some"]


def say(line: str) -> None:
    """Tell how the work goes."""
    tqdm.write(line, file=sys.stderr)


def complain(sentence: str) -> None:
    """Tell what went wrong."""
    say(f"error: {sentence}")


def command_line() -> str:
    """Write the command under way as one could type it again."""
    return shlex.join(["dtcwsi", *sys.argv[1:]])


def count(number: int, what: str) -> str:
    """Write a number of things: 1 slide, 2 slides."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def some(names: Iterable[str], most: int = 5) -> str:
    """List the first names, and say whether there are more."""
    listed = list(names)
    return ", ".join(listed[:most]) + (" ..." if len(listed) > most else "")


def print_json(content: Any) -> None:
    """Print a result for a script."""
    print(json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a result for a person, columns aligned."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


class Progress:
    """A bar on a terminal, a plain line an item elsewhere."""

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._done, self._extra = total, 0, 0
        self._live = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit=f" {unit}", disable=not self._live, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def item(self, line: str, *, quiet: bool = False) -> None:
        """One item is done; a terminal shows its line only if it is not quiet."""
        self._done += 1
        self._bar.update(1)
        if not (self._live and quiet):
            say(f"[{self._done}/{self._total}] {line}")

    def counter(self, what: str) -> Callable[[int], None]:
        """Return a function that adds to a small counter behind the bar."""

        def add(count: int) -> None:
            self._extra += count
            self._bar.set_postfix_str(f"{self._extra:,} {what}", refresh=False)

        return add
