"""What the commands say: results to stdout, everything else to stderr."""

import json
import shlex
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from tqdm import tqdm

from dtcwsi.store.atomic import plain

__all__ = [
    "Progress",
    "command_line",
    "complain",
    "count",
    "duration",
    "print_json",
    "print_table",
    "say",
    "size",
    "some",
]


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


def duration(seconds: float) -> str:
    """Write seconds in the two units that matter: 4 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), list[tuple[int, str]]()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        whole, left = divmod(left, length)
        if whole or parts:
            parts.append((whole, unit))
    return " ".join(f"{whole} {unit}" for whole, unit in parts[:2] if whole)


def size(n_bytes: float) -> str:
    """Write a number of bytes: 0.4 MB, 12 MB, 3.4 GB, 210 GB."""
    number, unit = (n_bytes / 1e9, "GB") if n_bytes >= 1e9 else (n_bytes / 1e6, "MB")
    return f"{number:,.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"


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
        self._total, self._done = total, 0
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
